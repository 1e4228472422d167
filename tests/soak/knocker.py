"""A thousand laptops that knock as fast as the server answers, each for an address of its own, again and again."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from spa_protocol.answer import open_answer
from spa_protocol.keys import Channel, ChannelKeys, derive
from spa_protocol.knock import Knock
from spa_protocol.seal import HEAD_SIZE, NONCE_SIZE, Domain, seal
from spa_protocol.tag import TagKind, TagPosition, compute_tag
from tests.end_to_end.crafting import Keys, now_ms
from tests.lab import Address, Host

WINDOW_MS = 60_000
AHEAD_MS = 25_000
"""How far into the next window knocks are dated when the present one is used up: less than the skew that is allowed."""
BEHIND_MS = 25_000
"""How long after its end a window is still used: less than that skew, too."""
IN_FLIGHT = 24
PATIENCE_S = 3.0
OPENED_EVERY = 50
"""Of so many answers one is opened and verified; all are counted."""


@dataclass(frozen=True, slots=True)
class Member:
    """One laptop: its secrets, the keys derived from them, and the address that it asks the lease for."""

    keys: Keys
    channel: ChannelKeys
    source: Address


def members(crowd: Sequence[Keys]) -> list[Member]:
    """The crowd with an address each, by turns of IPv4 (198.18.0.0/15, for benchmarks) and IPv6."""
    return [
        Member(
            keys,
            derive(keys.perimeter.gate_secret, Channel.DEVICE),
            IPv4Address(0xC6120000 + number) if number % 2 else IPv6Address(0x20010DB8_0002 << 80 | number),
        )
        for number, keys in enumerate(crowd, start=1)
    ]


class Knocker:
    """Sends from one socket, never more than IN_FLIGHT ahead of the answers."""

    def __init__(self, sock: socket.socket, server: Host, port: int, crowd: Sequence[Member], slots: int) -> None:
        """`sock` is an IPv6 socket that takes both families."""
        self._sock = sock
        self._to = {4: (f"::ffff:{server.ipv4}", port), 6: (str(server.ipv6), port)}
        self._crowd = crowd
        self._slots = slots
        self._waiting: dict[int, deque[tuple[bytes, Member, float]]] = {4: deque(), 6: deque()}
        self._places = self._turns()
        self.sent = 0
        self.answered = 0
        self.lost = 0
        self.opened: Counter[str] = Counter()

    def knock(self, count: int) -> None:
        """So many more knocks, each answered or given up."""
        for _ in range(count):
            member, window, slot = next(self._places)
            self._send(member, window, slot)
            while self._in_flight() >= IN_FLIGHT:
                self._hear()
        while self._in_flight():
            self._hear()

    def _in_flight(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _turns(self) -> Iterator[tuple[Member, int, int]]:
        """Every (laptop, window, slot) once; waits for a window when all before it are used up."""
        window = now_ms() // WINDOW_MS
        while True:
            for slot in range(self._slots):
                for member in self._crowd:
                    if now_ms() > (window + 1) * WINDOW_MS + BEHIND_MS:
                        break  # not all slots of a window are needed at this pace
                    yield member, window, slot
            window = max(window + 1, now_ms() // WINDOW_MS)
            time.sleep(max(0, window * WINDOW_MS - AHEAD_MS - now_ms()) / 1000)

    def _send(self, member: Member, window: int, slot: int) -> None:
        time_ms = min(max(now_ms(), window * WINDOW_MS), (window + 1) * WINDOW_MS - 1)
        datagram = seal(
            seal_key=member.channel.request_seal,
            signer=member.keys.perimeter.signer,
            domain=Domain.KNOCK,
            server_identity=member.keys.perimeter.server_identity,
            tag=compute_tag(member.channel, TagPosition(TagKind.KNOCK, window, slot)),
            nonce=os.urandom(NONCE_SIZE),
            body=Knock(time_ms, ("web",), 0, member.source).body(),
        )
        self._sock.sendto(datagram, self._to[member.source.version])
        self._waiting[member.source.version].append((datagram, member, time.monotonic()))
        self.sent += 1

    def _hear(self) -> None:
        """One answer, or the end of patience with the oldest knock."""
        oldest = min((queue for queue in self._waiting.values() if queue), key=lambda queue: queue[0][2])
        self._sock.settimeout(max(0.01, oldest[0][2] + PATIENCE_S - time.monotonic()))
        try:
            reply, peer = self._sock.recvfrom(2048)
        except TimeoutError:
            oldest.popleft()
            self.lost += 1
            return
        # The server answers the knocks of one family in the order in which they came.
        waiting = self._waiting[4 if "." in peer[0] else 6]
        if not waiting:
            return  # the answer to one that was given up
        request, member, _ = waiting.popleft()
        self.answered += 1
        if self.answered % OPENED_EVERY == 0 and self.lost == 0:
            self._open(reply, member, request)

    def _open(self, reply: bytes, member: Member, request: bytes) -> None:
        """What an answer says."""
        answer = open_answer(
            reply,
            keys=member.channel,
            server_identity=member.keys.perimeter.server_identity,
            request_head=request[:HEAD_SIZE],
        )
        self.opened[
            "unreadable" if answer is None else "granted" if answer.refusal is None else answer.refusal.name
        ] += 1
