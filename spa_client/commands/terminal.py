"""What is printed for programs, and whether a person can be asked: a prompt that nobody sees would wait for ever."""

from __future__ import annotations

import sys

import click


def at_terminal() -> bool:
    """Whether whoever runs this can read a question and type the answer."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    import json

    click.echo(json.dumps(value))
