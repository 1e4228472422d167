"""Which key a join takes: options, made into one choice."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from spa_client.signing.choosing import KeyChoice


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--key`, `--agent`, `--passphrase` and `--keyring`; the command gets them as `choice`."""

    @click.option(
        "--key",
        "key_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Sign with this Ed25519 private key, such as ~/.ssh/id_ed25519; it stays there.",
    )
    @click.option(
        "--agent",
        is_flag=False,
        flag_value="",
        metavar="[KEY]",
        help="Sign with a key in ssh-agent: the only one, or the one of that fingerprint (SHA256:...) or comment.",
    )
    @click.option("--passphrase", is_flag=True, help="Make a key that is locked under a passphrase.")
    @click.option("--keyring", is_flag=True, help="Make a key that is kept in the platform's key ring.")
    @wraps(command)
    def chosen(
        *args: Any, key_file: Path | None, agent: str | None, passphrase: bool, keyring: bool, **others: Any
    ) -> Any:
        return command(*args, choice=KeyChoice(key_file, agent, passphrase, keyring), **others)

    return chosen
