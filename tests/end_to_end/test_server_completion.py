"""What a shell completes for root on the server, and for others."""

from __future__ import annotations

import os
import subprocess

import click
import pytest

from spa_server.commands.completion import device_labels
from tests.end_to_end.laptop import SCRIPTS
from tests.end_to_end.running import Laptop, RunningServer

BASH = """
source <(spa-server completion bash)
COMP_WORDS=({line} "") COMP_CWORD={number}
_spa_server_completion spa-server
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def offered(server: RunningServer, line: str) -> tuple[set[str], str]:
    """What bash offers for the next word of a line, and what was said on standard error."""
    program = BASH.format(line=line, number=len(line.split()))
    env = {
        **os.environ,
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "SPA_SERVER_CONFIG": str(server.config),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(["bash", "-c", program], env=env, capture_output=True, text=True, check=True)
    return set(done.stdout.split()), done.stderr


def test_devices_are_offered_to_root_by_name(server: RunningServer, alice: Laptop) -> None:
    server.invite("bob-laptop", user="bob")
    for line in ("why", "device show", "device disable", "invite", "lease revoke"):
        assert offered(server, f"spa-server {line}") == ({"alice-laptop"}, "")
    assert {"invite", "device", "lease"} <= offered(server, "spa-server")[0]
    assert offered(server, "spa-server device add") == (set(), "")


def test_others_are_offered_none_and_told_nothing(
    server: RunningServer, alice: Laptop, capfd: pytest.CaptureFixture[str]
) -> None:
    context = click.Context(click.Command("show"), resilient_parsing=True)
    context.params["config_path"] = server.config
    label = click.Argument(["label"])
    assert device_labels(context, label, "") == ["alice-laptop"]
    os.seteuid(12345)
    try:
        assert device_labels(context, label, "") == []
    finally:
        os.seteuid(0)
    assert capfd.readouterr() == ("", "")


def test_without_a_configuration_nothing_is_offered_or_said(server: RunningServer, alice: Laptop) -> None:
    server.config.unlink()
    assert offered(server, "spa-server device show") == (set(), "")
