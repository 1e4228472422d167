"""`spa-client knock --explain`: the steps as people read them, or in the JSON of a knock that failed.

It must not know what the steps are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from spa_client.errors import SpaError
from spa_client.knocking import Opened
from spa_client.steps import Step, followed, tell

_PORT_S = 2.0
"""How long a port that was just opened may take to accept, before the explanation goes on without it."""


@contextmanager
def explained(*, as_json: bool) -> Iterator[list[Step]]:
    """Shows each step of the block on standard error; for JSON, collects them and prints them if the block fails."""
    steps: list[Step] = []

    def report(step: Step) -> None:
        steps.append(step)
        if not as_json:
            click.echo(f"{step.at_ms:8.1f} ms  {step.name:<13} {step.what}", err=True)

    with followed(report):
        tell("begun", "what follows is counted from here")
        try:
            yield steps
        except SpaError as error:
            tell("failed", "with exit code {}", error.exit_code)
            if as_json:
                failure = {"error": error.sentence, "exit_code": error.exit_code}
                click.echo(json.dumps(failure | {"steps": [step.plain() for step in steps]}))
            raise


def tell_opened(opened: Opened, *, try_ports: bool) -> None:
    """Tell what opened, and perhaps try its TCP ports at every address where they are said to be open."""
    from spa_client.waiting import wait_open

    for service in opened.services:
        places = " and ".join(map(str, service.addresses))
        tell("opened", "{} at {} for {} s", service.name, places, service.left_s)
    for service in opened.services if try_ports else ():
        for address in service.addresses if service.tcp_port else ():
            wait_open((address,), service.tcp_port, _PORT_S)
