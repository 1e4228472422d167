"""Knocks sealed by hand from an enrolled laptop's keys: right ones, and wrong in every way a test wants.

It must not know sockets or processes: bytes out.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from spa_client.perimeter import Perimeter
from spa_client.slots import SlotBook
from spa_protocol.answer import Answer, open_answer
from spa_protocol.body import Address
from spa_protocol.keys import Channel, ChannelKeys, derive
from spa_protocol.knock import Knock
from spa_protocol.seal import HEAD_SIZE, NONCE_SIZE, Domain, seal
from spa_protocol.signature import SeedSigner
from spa_protocol.tag import TagKind, TagPosition, compute_tag


def now_ms() -> int:
    """The wall clock: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Keys:
    """One laptop's secrets for one perimeter, and the slots it has used."""

    perimeter: Perimeter
    slots: SlotBook

    @property
    def channel(self) -> ChannelKeys:
        """The keys that are derived from the gate secret."""
        return derive(self.perimeter.gate_secret, Channel.DEVICE)

    def knock(
        self,
        *services: str,
        lease_s: int = 0,
        source: Address | None = None,
        time_ms: int | None = None,
        slot: int | None = None,
    ) -> bytes:
        """A good knock, of now and under a slot not used yet unless told otherwise."""
        time_ms = now_ms() if time_ms is None else time_ms
        return self.sealed(Knock(time_ms, services, lease_s, source).body(), time_ms=time_ms, slot=slot)

    def sealed(
        self,
        body: bytes,
        *,
        time_ms: int | None = None,
        slot: int | None = None,
        kind: TagKind = TagKind.KNOCK,
        seed: bytes | None = None,
        server_identity: bytes | None = None,
        domain: Domain = Domain.KNOCK,
    ) -> bytes:
        """Any body of 400 bytes, signed and sealed, under the tag of `time_ms` (default now) and the slot.

        `seed` and `server_identity` replace the right ones.
        """
        time_ms = now_ms() if time_ms is None else time_ms
        slot = self.slots.claim(time_ms) if slot is None else slot
        return seal(
            seal_key=self.channel.request_seal,
            signer=SeedSigner(seed) if seed else self.perimeter.signer,
            domain=domain,
            server_identity=server_identity or self.perimeter.server_identity,
            tag=self.tag(time_ms, slot, kind),
            nonce=os.urandom(NONCE_SIZE),
            body=body,
        )

    def tag(self, time_ms: int, slot: int, kind: TagKind = TagKind.KNOCK) -> bytes:
        """The tag of that time's window and the slot."""
        return compute_tag(self.channel, TagPosition(kind, kind.window(time_ms), slot))

    def answer(self, reply: bytes | None, request: bytes) -> Answer | None:
        """The verified answer to that request in what came back, or None."""
        if reply is None:
            return None
        identity = self.perimeter.server_identity
        return open_answer(reply, keys=self.channel, server_identity=identity, request_head=request[:HEAD_SIZE])
