"""From the place of a key to whoever signs with it.

It must not know what is signed, nor when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spa_client.errors import BadConfiguration
from spa_client.signing.place import KeyKind, KeyPlace
from spa_protocol.keys import public_key
from spa_protocol.signature import SeedSigner, Signature, Signer, VerifyingKey


@dataclass(slots=True)
class KeptSigner:
    """Signs with a seed that is fetched for the first signature, and is then at hand: a passphrase is asked for once.

    `fetch`: takes the seed out of its place; raises SpaError.
    """

    key: VerifyingKey
    fetch: Callable[[], bytes] = field(repr=False, compare=False)
    _fetched: SeedSigner | None = field(default=None, repr=False, compare=False)

    @property
    def every_time(self) -> bool:
        """Once it is unlocked it costs nothing."""
        return True

    def unlock(self) -> SeedSigner:
        """Fetch the seed, if that was not done before. Raises SpaError."""
        if self._fetched is None:
            seed = self.fetch()
            if public_key(seed) != self.key.public:
                raise BadConfiguration(
                    "the key is another than the one that joined: bring that one back, or join again"
                )
            self._fetched = SeedSigner(seed)
        return self._fetched

    def sign(self, message: bytes) -> Signature:
        """The plain Ed25519 signature."""
        return self.unlock().sign(message)


def unlock(signer: Signer) -> None:
    """Have a passphrase asked for now, before there is a time that runs. Raises SpaError."""
    if isinstance(signer, KeptSigner):
        signer.unlock()


def signer_at(place: KeyPlace, own_file: Path) -> Signer:
    """Who signs with the key at that place; nothing is unlocked yet. `own_file`: the perimeter's device.key.

    Raises BadConfiguration and NotPermitted.
    """
    if place.kind is KeyKind.OWN:
        from spa_client.signing.own_key import read_plain

        return SeedSigner(read_plain(own_file))
    if place.public is None:
        raise BadConfiguration("the file of the perimeter does not say which key it is: join again with a new invite")
    if place.kind is KeyKind.AGENT:
        from spa_client.signing.agent import AgentSigner

        return AgentSigner(place.public)
    return KeptSigner(place.public, _fetching(place, place.public, own_file))


def _fetching(place: KeyPlace, key: VerifyingKey, own_file: Path) -> Callable[[], bytes]:
    def from_file() -> bytes:
        from spa_client.signing.key_file import KeyFile

        return KeyFile.read(Path(place.path) if place.kind is KeyKind.FILE else own_file).seed()

    def from_ring() -> bytes:
        from spa_client.signing.key_ring import take

        return take(key)

    return from_ring if place.kind is KeyKind.KEYRING else from_file
