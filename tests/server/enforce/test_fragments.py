"""Fragments and extension headers are no way around the service chain: what is judged is the whole packet."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    fragment6,
)

from spa_server.service import Service
from tests.lab import Host
from tests.server.enforce.conftest import PATIENCE_S, QUIET_S, Site, service

TEXT = b"x" * 1200
UDP_SHAPES = ("whole", "halves", "tiny", "reversed")
TCP_SHAPES = ("whole", "tiny", "reversed")
V6_SHAPES = ("whole", "halves", "reversed", "options", "routing", "atomic", "header-in-second", "twice")

WEB: Service = service("web", tcp=(8443,), udp=(5353,))


def datagrams(shape: str, version: int, client: Host, server: Host) -> list[bytes]:
    """A datagram to the service's UDP port in one of the shapes."""
    upper = UDP(sport=4000, dport=5353) / TEXT
    if version == 4:
        return shaped4(shape, IP(src=str(client.ipv4), dst=str(server.ipv4), id=77) / upper)
    return shaped6(shape, IPv6(src=str(client.ipv6), dst=str(server.ipv6)), upper)


def shaped4(shape: str, whole: IP) -> list[bytes]:
    size = {"whole": 1480, "halves": 600, "tiny": 8, "reversed": 8}[shape]
    packets = [bytes(each) for each in fragment(whole, fragsize=size)]
    return packets[::-1] if shape == "reversed" else packets


def shaped6(shape: str, head: IPv6, upper: TCP | UDP) -> list[bytes]:
    # An experimental option that whoever does not know it passes over; long padding the kernel refuses.
    options = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"\0" * 200)])
    match shape:
        case "whole":
            return [bytes(head / upper)]
        case "halves" | "reversed":
            packets = [bytes(each) for each in fragment6(head / IPv6ExtHdrFragment(id=5) / upper, 700)]
            return packets[::-1] if shape == "reversed" else packets
        case "options":
            return [bytes(head / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / options / upper)]
        case "routing":  # nothing left to visit, so it is for the addressed host
            return [bytes(head / IPv6ExtHdrRouting(type=2, segleft=0, addresses=["::1"]) / upper)]
        case "atomic":
            return [bytes(head / IPv6ExtHdrFragment(id=6, offset=0, m=0) / upper)]
        case "header-in-second":  # the first fragment ends before the ports begin
            whole = bytes(head / options / upper)[40:]
            return _cut6(head, whole, (104, len(whole)), identity=7)
        case _:  # "twice": the same first part again, with another port
            whole = bytes(head / upper)[40:]
            pieces = _cut6(head, whole, (8, len(whole)), identity=8)
            return [pieces[0].replace((5353).to_bytes(2, "big"), (8080).to_bytes(2, "big")), *pieces]


def _cut6(head: IPv6, payload: bytes, ends: Sequence[int], identity: int) -> list[bytes]:
    """Fragments of `payload` that end at each of `ends`; the last takes the rest."""
    following = 60 if payload[0] == 17 else 17  # destination options before UDP, or UDP itself
    pieces, start = [], 0
    for end in ends:
        more = int(end < len(payload))
        extension = IPv6ExtHdrFragment(nh=following, id=identity, offset=start // 8, m=more)
        pieces.append(bytes(head / extension / payload[start:end]))
        start = end
    return pieces


def send(client: Host, server: Host, version: int, packets: Sequence[bytes]) -> None:
    """Send packets as they are, IP header included."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with client.new_socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in packets:
            raw.sendto(packet, (str(server.address(version)), 0))


def arrives(site: Site, version: int, shape: str, patience_s: float = PATIENCE_S) -> bool:
    with site.server.bind_udp(5353) as receiver, site.server.bind_udp(8080) as other:
        receiver.settimeout(patience_s)
        other.setblocking(False)
        send(site.stranger, site.server, version, datagrams(shape, version, site.stranger, site.server))
        try:
            return receiver.recv(2000) == TEXT
        except TimeoutError:
            return False


@pytest.mark.parametrize("shape", UDP_SHAPES)
def test_an_ipv4_datagram_in_fragments_needs_the_lease(site: Site, shape: str) -> None:
    site.close_up(WEB)
    assert not arrives(site, 4, shape, QUIET_S)
    site.let_in(site.stranger, 4)
    assert arrives(site, 4, shape)


@pytest.mark.parametrize("shape", V6_SHAPES)
def test_an_ipv6_datagram_in_fragments_or_behind_headers_needs_the_lease(site: Site, shape: str) -> None:
    # The kernel itself refuses overlaps, and first fragments without the ports (RFC 7112).
    passes_with_lease = shape not in ("header-in-second", "twice")
    site.close_up(WEB)
    assert not arrives(site, 6, shape, QUIET_S)
    site.let_in(site.stranger, 6)
    assert arrives(site, 6, shape, PATIENCE_S if passes_with_lease else QUIET_S) is passes_with_lease


@pytest.mark.parametrize("shape", TCP_SHAPES)
def test_a_syn_in_fragments_is_not_answered(site: Site, shape: str) -> None:
    site.close_up(WEB)
    syn = IP(src=str(site.stranger.ipv4), dst=str(site.server.ipv4), id=99) / TCP(
        sport=4001, dport=8443, flags="S", options=[("MSS", 1460), ("NOP", None), ("NOP", None)]
    )
    packets = shaped4(shape, syn)
    assert len(packets) > 1 or shape == "whole"
    with (
        site.server.listen_tcp(8443),
        site.stranger.new_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as answers,
    ):
        answers.settimeout(0.15)
        send(site.stranger, site.server, 4, packets)
        with pytest.raises(TimeoutError):
            answers.recv(100)
        site.let_in(site.stranger, 4)
        answers.settimeout(PATIENCE_S)
        send(site.stranger, site.server, 4, packets)
        assert answers.recv(100)[33] & 0x12 == 0x12  # SYN and ACK


def test_a_knock_without_tag_does_not_pass_in_fragments(site: Site) -> None:
    site.close_up(WEB)
    whole = IP(src=str(site.stranger.ipv4), dst=str(site.server.ipv4), id=78) / UDP(dport=62201) / bytes(512)
    with site.server.bind_udp(62201) as receiver:
        receiver.settimeout(0.15)
        send(site.stranger, site.server, 4, shaped4("tiny", whole))
        with pytest.raises(TimeoutError):
            receiver.recv(1000)
