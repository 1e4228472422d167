"""Odd packets around good knocks: what the kernel makes of them never opens more than a good knock would.

Each carries a live tag and a right signature, so the gate would let it in; the packet around it is what is wrong.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    fragment6,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Padding, Raw

from tests.end_to_end.crowd import Place, enrol_crowd, live_places, send_all
from tests.end_to_end.observing import Capture
from tests.end_to_end.running import RunningServer, wait_until
from tests.lab import Host, Lab

SLOTS = 64
PORT = 62201
MOST_GROWTH_KIB = 4_000


@pytest.fixture(scope="module")
def server(module_lab: Lab, module_folder: Path) -> Iterator[RunningServer]:
    """A server with tags live for several minutes."""
    with RunningServer(module_lab, module_folder, slots=SLOTS, max_skew_s=240) as running:
        yield running


@pytest.fixture(scope="module")
def places(server: RunningServer, module_lab: Lab) -> Iterator[Place]:
    """Live tags, of which each test takes as many as it needs. The first knock, which costs memory once, is over."""
    live = live_places(enrol_crowd(server, 1), SLOTS)
    keys, at, slot = next(live)
    first = keys.knock("web", time_ms=at, slot=slot)
    assert send_all(server, module_lab.clients["alice"], [first], module_lab.server.ipv6) == {"granted": 1}
    server.command("lease", "revoke", keys.perimeter.label)
    return live


@pytest.fixture(autouse=True)
def unharmed(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> Iterator[None]:
    """After each test: the same processes, memory where it was, and the next good knock opens."""
    pids, before_kib = server.pids, server.resident_kib()
    yield
    keys, at, slot = next(places)
    good = keys.knock("web", time_ms=at, slot=slot)
    assert send_all(server, module_lab.clients["alice"], [good], module_lab.server.ipv6) == {"granted": 1}
    server.command("lease", "revoke", keys.perimeter.label)
    assert server.pids == pids
    assert all(kib - before_kib[name] < MOST_GROWTH_KIB for name, kib in server.resident_kib().items())


def mac(host: Host) -> str:
    """The hardware address of a host's end of the segment."""
    with host.new_socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        return ":".join(f"{byte:02x}" for byte in sock.getsockname()[4])


class Wire:
    """Sends frames from alice to the server, and tells what the server made of them."""

    def __init__(self, lab: Lab, server: RunningServer) -> None:
        self._lab, self._server = lab, server
        self._alice = lab.clients["alice"]
        self.head = Ether(src=mac(self._alice), dst=mac(lab.server))

    def ip4(self, **fields: object) -> Packet:
        return IP(src=str(self._alice.ipv4), dst=str(self._lab.server.ipv4), **fields)

    def ip6(self, **fields: object) -> Packet:
        return IPv6(src=str(self._alice.ipv6), dst=str(self._lab.server.ipv6), **fields)

    def send(self, *packets: Packet, awaited: int = 0) -> Counter[str]:
        """What came of these packets, by outcome; so many of them are waited for."""
        before = Counter(self._server.results())
        with self._alice.new_socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            for packet in packets:
                sock.send(bytes(packet) if packet.haslayer(Ether) else bytes(self.head / packet))
        wait_until(
            lambda: sum(self._server.results().values()) >= before.total() + awaited, f"{awaited} of the packets"
        )
        return Counter(self._server.results()) - before


@pytest.fixture
def wire(module_lab: Lab, server: RunningServer) -> Wire:
    """From alice to the server."""
    return Wire(module_lab, server)


@pytest.fixture
def knock(places: Iterator[Place]) -> bytes:
    """A good knock that nobody has sent yet."""
    keys, at, slot = next(places)
    return keys.knock("web", time_ms=at, slot=slot)


def udp(payload: bytes, **fields: object) -> Packet:
    return UDP(sport=40000, dport=PORT, **fields) / Raw(payload)


def overlapping(wire: Wire, knock: bytes) -> list[Packet]:
    """Two fragments that claim the same bytes, the second with other ones."""
    whole = bytes(udp(knock))
    return [
        wire.ip4(id=6, proto=17, flags="MF", frag=0) / Raw(whole[:264]),
        wire.ip4(id=6, proto=17, flags="MF", frag=16) / Raw(b"\xff" * 264),
        wire.ip4(id=6, proto=17, flags=0, frag=33) / Raw(whole[264:]),
    ]


DROPPED: dict[str, Callable[[Wire, bytes], list[Packet]]] = {
    "a wrong UDP checksum over IPv4": lambda wire, knock: [wire.ip4() / udp(knock, chksum=0xBAD)],
    "a wrong UDP checksum over IPv6": lambda wire, knock: [wire.ip6() / udp(knock, chksum=0xBAD)],
    "no UDP checksum over IPv6": lambda wire, knock: [wire.ip6() / udp(knock, chksum=0)],
    "a wrong IPv4 header checksum": lambda wire, knock: [wire.ip4(chksum=0xBAD) / udp(knock)],
    "a UDP length of nothing": lambda wire, knock: [wire.ip4() / udp(knock, len=0)],
    "a UDP length below its header": lambda wire, knock: [wire.ip4() / udp(knock, len=7)],
    "a UDP length beyond the packet": lambda wire, knock: [wire.ip4() / udp(knock, len=521)],
    "the right UDP length over a shorter packet": lambda wire, knock: [wire.ip4() / udp(knock[:-1], len=520)],
    "an IPv4 length beyond the frame": lambda wire, knock: [wire.ip4(len=2000) / udp(knock)],
    "an IPv4 length before the end": lambda wire, knock: [wire.ip4(len=200) / udp(knock)],
    "an IPv4 header length beyond the packet": lambda wire, knock: [wire.ip4(ihl=15) / udp(knock)],
    "IP version 0": lambda wire, knock: [wire.ip4(version=0) / udp(knock)],
    "another protocol's number": lambda wire, knock: [wire.ip4(proto=136) / udp(knock)],
    "the server's own address as source": lambda wire, knock: [IP(src="198.51.100.1", dst="198.51.100.1") / udp(knock)],
    "loopback as source": lambda wire, knock: [IP(src="127.0.0.1", dst="198.51.100.1") / udp(knock)],
    "multicast as source": lambda wire, knock: [IP(src="224.0.0.1", dst="198.51.100.1") / udp(knock)],
    "multicast as source, IPv6": lambda wire, knock: [IPv6(src="ff02::1", dst="2001:db8:1::1") / udp(knock)],
    "loopback as source, IPv6": lambda wire, knock: [IPv6(src="::1", dst="2001:db8:1::1") / udp(knock)],
    "loopback as destination": lambda wire, knock: [IP(src="198.51.100.11", dst="127.0.0.1") / udp(knock)],
    "somebody else's address as destination": lambda wire, knock: [
        IP(src="198.51.100.11", dst="192.0.2.1") / udp(knock)
    ],
    "the first fragment alone": lambda wire, knock: fragment(wire.ip4(id=1) / udp(knock), 256)[:1],
    "all fragments but the first": lambda wire, knock: fragment(wire.ip4(id=2) / udp(knock), 256)[1:],
    "overlapping fragments": overlapping,
    "the first IPv6 fragment alone": lambda wire, knock: fragment6(
        wire.ip6() / IPv6ExtHdrFragment(id=3) / udp(knock), 300
    )[:1],
    "a routing header that leads on": lambda wire, knock: [
        wire.ip6() / IPv6ExtHdrRouting(type=0, segleft=1, addresses=["2001:db8:1::12"]) / udp(knock)
    ],
    "a chain of headers that never ends": lambda wire, knock: [
        wire.ip6(nh=60) / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 80)
    ],
    "nothing at all": lambda wire, knock: [wire.ip4() / udp(b""), wire.ip6() / udp(b"")],
    "a jumbo datagram": lambda wire, knock: fragment(wire.ip4(id=4) / udp(knock + bytes(8500)), 1400),
    "the largest datagram": lambda wire, knock: fragment(wire.ip4(id=5) / udp(knock + bytes(65507 - 512)), 1400),
    "an IPv6 jumbogram's option": lambda wire, knock: [
        IPv6(src="2001:db8:1::11", dst="2001:db8:1::1", plen=0, nh=0)
        / Raw(bytes([17, 0, 0xC2, 4, 0, 1, 0, 0]))
        / udp(knock)
    ],
    "TCP to the knock port": lambda wire, knock: [
        wire.ip4(proto=6) / Raw(bytes.fromhex("9c40f2f9") + bytes(8) + bytes.fromhex("50020200") + bytes(4) + knock)
    ],
}


@pytest.mark.parametrize("name", DROPPED)
def test_it_opens_nothing_and_is_answered_by_nothing(
    server: RunningServer, wire: Wire, knock: bytes, module_lab: Lab, name: str
) -> None:
    lines = server.log_lines()
    with Capture(module_lab.clients["alice"]) as capture:
        assert wire.send(*DROPPED[name](wire, knock)) == {}
        replies = [words for words in capture.packets(control=module_lab.server.ipv4) if " udp " in words]
    assert replies == []
    assert server.leases() == []
    assert server.log_lines() == lines


GRANTED: dict[str, Callable[[Wire, bytes], list[Packet]]] = {
    "whole": lambda wire, knock: [wire.ip4() / udp(knock)],
    "no UDP checksum over IPv4": lambda wire, knock: [wire.ip4() / udp(knock, chksum=0)],
    "in fragments": lambda wire, knock: fragment(wire.ip4(id=10) / udp(knock), 64),
    "in fragments, the last first": lambda wire, knock: fragment(wire.ip4(id=11) / udp(knock), 64)[::-1],
    "in IPv6 fragments": lambda wire, knock: fragment6(wire.ip6() / IPv6ExtHdrFragment(id=12) / udp(knock), 300),
    "an IPv6 fragment that is whole": lambda wire, knock: [wire.ip6() / IPv6ExtHdrFragment(id=13) / udp(knock)],
    "behind IPv6 options": lambda wire, knock: [
        wire.ip6()
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
        / udp(knock)
    ],
    "more bytes in the frame than in the packet": lambda wire, knock: [wire.ip4() / udp(knock) / Padding(b"tail")],
    "a VLAN tag of the untagged network": lambda wire, knock: [wire.head / Dot1Q(vlan=0) / wire.ip4() / udp(knock)],
}


@pytest.mark.parametrize("name", GRANTED)
def test_what_the_kernel_can_put_together_is_one_knock_and_opens_once(
    server: RunningServer, wire: Wire, knock: bytes, name: str
) -> None:
    packets = GRANTED[name](wire, knock)
    assert wire.send(*packets, awaited=1) == {"granted": 1}
    assert {lease["source"] for lease in server.leases()} <= {"198.51.100.11", "2001:db8:1::11"}
    assert wire.send(*packets) == {}, "the same again"


def test_a_vlan_of_others_is_not_listened_to(server: RunningServer, wire: Wire, knock: bytes) -> None:
    assert wire.send(wire.head / Dot1Q(vlan=7) / wire.ip4() / udp(knock)) == {}
    assert server.leases() == []
