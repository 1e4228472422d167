"""Which key a join was told to take: from the command's options to a place.

It must not know what the key is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spa_client.errors import BadUsage
from spa_client.signing.place import OWN_FILE, KeyKind, KeyPlace
from spa_protocol.openssh import fingerprint
from spa_protocol.signature import VerifyingKey


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """`file`: a key's file. `agent`: a fingerprint or comment, "" for the agent's only key. At most one is chosen."""

    file: Path | None = None
    agent: str | None = None
    passphrase: bool = False
    keyring: bool = False

    def place(self) -> KeyPlace:
        """Where the key is, or is to be made. Raises BadUsage and what is wrong with the key's place."""
        chosen = [self.file is not None, self.agent is not None, self.passphrase, self.keyring]
        if sum(chosen) > 1:
            raise BadUsage("one device has one key: give one of --key, --agent, --passphrase and --keyring")
        if self.passphrase:
            return KeyPlace(KeyKind.PASSPHRASE)
        if self.keyring:
            return KeyPlace(KeyKind.KEYRING)
        if self.agent is not None:
            return _in_agent(self.agent)
        return OWN_FILE if self.file is None else _in_file(self.file)

    def place_of(self, key: VerifyingKey) -> KeyPlace:
        """Where that very key is, which the server was given before. Raises BadUsage and as `place` does."""
        place = KeyChoice(agent=fingerprint(key)).place() if self.agent == "" else self.place()
        if place.kind.is_made_here:
            raise BadUsage("the server knows this device's key already; say where it is: --key FILE or --agent")
        if place.public != key:
            found = fingerprint(place.public) if place.public is not None else "none"
            raise BadUsage(f"the server was given the key {fingerprint(key)}; this one is {found}")
        return place


def _in_agent(wanted: str) -> KeyPlace:
    from spa_client.signing.agent import choose

    return KeyPlace(KeyKind.AGENT, choose(wanted).key)


def _in_file(file: Path) -> KeyPlace:
    from spa_client.signing.key_file import KeyFile

    path = file.expanduser().absolute()
    if not str(path).isprintable():
        raise BadUsage(f"{str(path)!r} has characters that cannot be written down; give the key's file another name")
    return KeyPlace(KeyKind.FILE, KeyFile.read(path).public(), str(path))
