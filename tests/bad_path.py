"""A bad path between one host of the lab and its segment: datagrams are lost, held up, overtaken and doubled.

A bridge in user space between two TAP devices, the host's own and one on the segment. It does what `tc qdisc … netem`
does, but needs no module of the kernel, repeats itself from a seed, and knows when it was late itself. Each IP packet
has its own fate; ARP and ICMPv6, by which neighbours are found, pass unharmed, as if the path were bad further away.
It must not know pytest or anything of this project.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.lab import Host, Lab, LabError

_TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
"""From linux/if_tun.h."""
_IPV4, _IPV6, _ICMPV6 = b"\x08\x00", b"\x86\xdd", 58
_LATE_S = 0.1


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls each packet, in each direction by itself; the shares are probabilities.

    `jitter_s`: a delay is up to this much shorter or longer. `overtake`: the share that is not held up at all, and so
    passes those before it.
    """

    loss: float = 0.3
    delay_s: float = 0.02
    jitter_s: float = 0.01
    overtake: float = 0.1
    double: float = 0.1


@dataclass(slots=True)
class BadPath:
    """The bridge.

    `ends`: the descriptors of both devices. `fates`: how many packets were passed or lost, and of those passed how many
    doubled or overtaking. `late_s`: when it was late itself (monotonic).
    """

    weather: Weather
    chance: random.Random
    ends: tuple[int, int]
    fates: Counter[str] = field(default_factory=Counter)
    late_s: list[float] = field(default_factory=list)
    _waiting: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def was_late(self, begun_s: float, ended_s: float) -> bool:
        """Whether the machine held it up in that time (monotonic), so that more befell a datagram than the weather."""
        return any(begun_s <= at_s <= ended_s for at_s in tuple(self.late_s))

    def run(self, stop: int) -> None:
        """Bridge until that descriptor can be read."""
        other = dict(zip(self.ends, reversed(self.ends), strict=True))
        while True:
            due_s = self._waiting[0][0] if self._waiting else time.monotonic() + 1
            readable, _, _ = select.select([stop, *self.ends], [], [], max(0.0, due_s - time.monotonic()))
            if stop in readable:
                return
            self._release(due_s)
            for end in readable:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        self._meet(os.read(end, 65536), other[end])

    def _meet(self, frame: bytes, to: int) -> None:
        """Decide on a frame, once for all."""
        weather, chance = self.weather, self.chance
        is_packet = frame[12:14] == _IPV4 or (frame[12:14] == _IPV6 and frame[20] != _ICMPV6)
        if not is_packet:
            self._hold(frame, to, 0.0)
            return
        if chance.random() < weather.loss:
            self.fates["lost"] += 1
            return
        self.fates["passed"] += 1
        copies = 1
        if chance.random() < weather.double:
            self.fates["doubled"] += 1
            copies = 2
        for _ in range(copies):
            delay_s = weather.delay_s + chance.uniform(-weather.jitter_s, weather.jitter_s)
            if chance.random() < weather.overtake:
                self.fates["overtaking"] += 1
                delay_s = 0.0
            self._hold(frame, to, delay_s)

    def _hold(self, frame: bytes, to: int, delay_s: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + delay_s, next(self._numbers), to, frame))

    def _release(self, planned_s: float) -> None:
        now_s = time.monotonic()
        if now_s > planned_s + _LATE_S:
            self.late_s.append(now_s)
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, to, frame = heapq.heappop(self._waiting)
            # A device that is full loses it, as a real one does.
            with contextlib.suppress(BlockingIOError):
                os.write(to, frame)


@contextlib.contextmanager
def bad_path(lab: Lab, host: Host, weather: Weather, seed: int) -> Iterator[BadPath]:
    """While it runs, all that the host says to others and hears from them goes that way; then it is cut off.

    Sockets that the host had bound to its device lose it.
    """
    lab.unplug(host)
    with contextlib.ExitStack() as stack:
        near, far = _tap(host, "eth0", stack), _tap(lab.segment, f"bad-{host.ipv4.packed[3]}", stack)
        lab.address(host)
        lab.connect(f"bad-{host.ipv4.packed[3]}")
        path = BadPath(weather, random.Random(seed), (near, far))
        stop_reading, stop_writing = os.pipe()
        stack.callback(os.close, stop_reading)
        bridge = threading.Thread(target=path.run, args=(stop_reading,), name="bad-path", daemon=True)
        bridge.start()
        try:
            yield path
        finally:
            os.close(stop_writing)
            bridge.join(60)


def _tap(host: Host, name: str, stack: contextlib.ExitStack) -> int:
    """A new TAP device there; it goes when its descriptor is closed."""
    try:
        with host.enter():
            descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise LabError(f"{_TUN}: {error.strerror}; mkdir -p /dev/net && mknod {_TUN} c 10 200") from None
    stack.callback(os.close, descriptor)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor
