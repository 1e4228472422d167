"""What has happened lately that makes knocks suspect, in memory: of networks, of devices, of used slots. All bounded.

What was not signed is kept by the network it came from and by nothing else. It must not know points, users or files;
times are milliseconds since boot, which nobody sets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from spa_server.decide.usual import Network

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")

INVALID_MS = 600_000
"""For how long a datagram that did not verify counts against its network."""
ALTERNATING_MS = 300_000
RETURNS = 2
"""So many returns to another network within that time are no moves of one device: there are two that have its key."""
MOST_NETWORKS = 10_000
MOST_DEVICES = 20_000
MOST_SLOTS = 20_000
_MOST_MOVES = 8


class InvalidKnocks:
    """How many datagrams from a network did not verify lately."""

    def __init__(self) -> None:
        self._times: OrderedDict[Network, deque[int]] = OrderedDict()

    def note(self, network: Network, boot_ms: int, most: int) -> None:
        """One more; no more than `most` are told apart."""
        times = self._times.pop(network, None)
        if times is None or times.maxlen != most:
            times = deque(times or (), maxlen=most)
        times.append(boot_ms)
        _keep(self._times, network, times, MOST_NETWORKS)

    def count(self, network: Network, boot_ms: int) -> int:
        """How many of them there were within `INVALID_MS`."""
        return sum(boot_ms - each < INVALID_MS for each in self._times.get(network, ()))

    def __len__(self) -> int:
        return len(self._times)


class Deed(Enum):
    """What only a holder of a device's key can have done."""

    USED_TAG = auto()
    IMPOSSIBLE_TRAVEL = auto()
    TWO_SOURCES = auto()


@dataclass(frozen=True, slots=True)
class _Done:
    boot_ms: int
    wall_s: int


class Deeds:
    """When each was last done with a device's key."""

    def __init__(self) -> None:
        self._done: OrderedDict[tuple[str, Deed], _Done] = OrderedDict()

    def note(self, device: str, deed: Deed, boot_ms: int, wall_s: int) -> None:
        """It was done just now."""
        self._done.pop((device, deed), None)
        _keep(self._done, (device, deed), _Done(boot_ms, wall_s), MOST_DEVICES)

    def ago_s(self, device: str, deed: Deed, boot_ms: int, key_created_s: int) -> float | None:
        """Seconds since; None where it was not, or with a key that the device had before this one."""
        done = self._done.get((device, deed))
        if done is None or done.wall_s < key_created_s:
            return None
        return max(boot_ms - done.boot_ms, 0) / 1000


@dataclass(slots=True)
class _Stay:
    network: Network
    last_ms: int


@dataclass(slots=True)
class Moves:
    """By which networks each device came, in order, in one family each: a host has an address of both at once.

    A device that roams goes from one to the next, and comes back once in a while. Where two use one key, each in its
    network, it seems to go to and fro as often as they knock.
    """

    _stays: OrderedDict[tuple[str, int], list[_Stay]] = field(default_factory=OrderedDict)

    def alternates(self, device: str, network: Network, boot_ms: int) -> bool:
        """The device comes by this network. Whether it goes to and fro: told at the move that shows it."""
        key = device, network.version
        stays = [each for each in self._stays.pop(key, ()) if boot_ms - each.last_ms < ALTERNATING_MS]
        has_moved = not stays or stays[-1].network != network
        if has_moved:
            stays.append(_Stay(network, boot_ms))
        stays[-1].last_ms = boot_ms
        _keep(self._stays, key, stays[-_MOST_MOVES:], MOST_DEVICES)
        returns = sum(any(each.network == stay.network for each in stays[:place]) for place, stay in enumerate(stays))
        return has_moved and returns >= RETURNS


class Uses:
    """Which datagram used a slot, by its digest: whether another one claims the slot, or the same comes again."""

    def __init__(self) -> None:
        self._digests: OrderedDict[Hashable, bytes] = OrderedDict()

    def note(self, slot: Hashable, digest: bytes) -> None:
        """The datagram of this digest used the slot. Who was first stays."""
        if slot not in self._digests:
            _keep(self._digests, slot, digest, MOST_SLOTS)

    def is_other(self, slot: Hashable, digest: bytes) -> bool:
        """Whether this is another datagram than the one that used the slot; not where that is not known any more."""
        return self._digests.get(slot, digest) != digest


def _keep(kept: OrderedDict[Key, Kept], key: Key, value: Kept, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
