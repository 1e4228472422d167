"""The device's key, where it is kept elsewhere than in the perimeter's files: is it there, and the one that joined?

Nobody is asked for anything: no passphrase, no touch. It must not know what is signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spa_client.errors import SpaError
from spa_client.examine.findings import Finding, Severity
from spa_client.signing.place import KeyKind, KeyPlace
from spa_protocol.openssh import fingerprint
from spa_protocol.signature import VerifyingKey


def key_findings(place: KeyPlace) -> Iterator[Finding]:
    """What was found about it; nothing where it is in a file of the perimeter's own, which `files` looks at."""
    if place.public is None or place.kind is KeyKind.PASSPHRASE:
        return
    name = f"{fingerprint(place.public)} in {place}"
    try:
        held = _held(place, place.public)
    except SpaError as error:
        yield Finding("key-unusable", Severity.FAULT, error.sentence, name)
        return
    if held:
        yield Finding("key", Severity.OK, "the key that signs is there", name)
    else:
        what = "the key that signs is not there"
        yield Finding("key-missing", Severity.FAULT, what, name, _bring_back(place))


def _held(place: KeyPlace, key: VerifyingKey) -> bool:
    if place.kind is KeyKind.AGENT:
        from spa_client.signing.agent import identities

        return key in {each.key for each in identities()}
    if place.kind is KeyKind.FILE:
        from spa_client.signing.key_file import KeyFile

        return KeyFile.read(Path(place.path)).public() == key
    from spa_client.signing.key_ring import take

    take(key)
    return True


def _bring_back(place: KeyPlace) -> str:
    if place.kind is KeyKind.AGENT:
        return "ssh-add the key's file; ssh-add -X, if the agent is locked; ssh-add -l shows what it holds"
    return f"bring the key back to {place.path}, or join again with a new invite"
