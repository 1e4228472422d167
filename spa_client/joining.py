"""A join under way, on disk before the first datagram is sent.

The server may enrol the key and its answer be lost. So a new key and the exchange's secret are written first, in a
folder that belongs to the invite; joining again with the same invite finds them, asks with the same key, and the server
grants the same again. It must not know of sockets.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from spa_client.errors import BadConfiguration
from spa_client.secret_file import make_folder, read_secret, sync_folder, write_file
from spa_client.signing import own_key
from spa_client.signing.place import KeyPlace
from spa_client.signing.signers import signer_at
from spa_client.slots import SlotBook
from spa_client.storage import KEY_FILE, Store
from spa_protocol.invite import Invite
from spa_protocol.keys import KEY_SIZE
from spa_protocol.signature import Signer
from spa_protocol.text import BadText, TextKind, decode_key, encode

_EXCHANGE_FILE = "exchange.secret"
_SLOTS_FOLDER = "slots"


@dataclass(frozen=True, slots=True)
class Joining:
    """The key and the secret of one join. `resumed`: whether an earlier try made them."""

    folder: Path
    place: KeyPlace
    signer: Signer = field(repr=False)
    exchange_secret: bytes = field(repr=False)
    resumed: bool = False

    @property
    def slots(self) -> SlotBook:
        """The claims on the invite's slots."""
        return SlotBook(self.folder / _SLOTS_FOLDER)

    def settle(self) -> None:
        """Erase what only the enrolment needed, so that the invite's text gives nothing away later. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _EXCHANGE_FILE).unlink()
        own_key.settle(self.folder / KEY_FILE)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder / _SLOTS_FOLDER)

    def abandon(self) -> None:
        """Forget a join that the server will never grant."""
        own_key.discard(self.place)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)


def begin(store: Store, invite: Invite, place: KeyPlace) -> Joining:
    """The join of that invite: the one begun before, or a new one, safely on disk.

    `place`: where the key is, or of which kind one is to be made. Raises SpaError and OSError.
    """
    folder = store.joining_folder(hashlib.blake2b(invite.text().encode("ascii"), digest_size=16).hexdigest())
    file = folder / KEY_FILE
    if (folder / _EXCHANGE_FILE).exists():
        before = _made_before(place, file)
        if before is not None:
            return Joining(folder, before, signer_at(before, file), _read(folder / _EXCHANGE_FILE), resumed=True)
    make_folder(folder)
    # An earlier try may have been with a key of another kind.
    own_key.clear(file)
    exchange_secret = os.urandom(KEY_SIZE)
    # The key last: it is complete only with the exchange beside it.
    write_file(folder / _EXCHANGE_FILE, encode(TextKind.GATE_SECRET, exchange_secret) + "\n")
    if place.kind.is_made_here:
        place, signer = own_key.make(place.kind, file)
    else:
        signer = signer_at(place, file)
    sync_folder(store.folder)
    return Joining(folder, place, signer, exchange_secret)


def _made_before(place: KeyPlace, file: Path) -> KeyPlace | None:
    if place.kind.is_made_here:
        return own_key.made(place.kind, file)
    return None if file.exists() else place


def _read(path: Path) -> bytes:
    try:
        return decode_key(TextKind.GATE_SECRET, read_secret(path))
    except BadText as error:
        raise BadConfiguration(f"{path} is damaged ({error}): remove {path.parent} and join again") from None
