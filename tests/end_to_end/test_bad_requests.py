"""Requests that are rightly sealed but wrong in what they say: each is refused for a reason that `why` tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from spa_protocol.enrolment import Enrolment
from spa_protocol.knock import Knock
from spa_protocol.refusal import Refusal
from spa_protocol.seal import BODY_SIZE, Domain
from spa_protocol.tag import TagKind
from tests.end_to_end.crafting import Keys, now_ms
from tests.end_to_end.crowd import Place, enrol_crowd, live_places, send_all
from tests.end_to_end.running import Laptop, RunningServer, enrolled
from tests.lab import Lab

SLOTS = 64
SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]

[service.vault]
tcp = [9443]
roles = ["keeper"]
"""
HEAD = bytes([1, 1, 1])
"""Version, message type knock, signature kind Ed25519."""


@pytest.fixture(scope="module")
def server(module_lab: Lab, module_folder: Path) -> Iterator[RunningServer]:
    """A server with a service that the senders may open, and one that they may not."""
    with RunningServer(module_lab, module_folder, SERVICES, slots=SLOTS, max_skew_s=240) as running:
        yield running


@pytest.fixture(scope="module")
def places(server: RunningServer) -> Iterator[Place]:
    """Live tags of a few devices, of which each test takes as many as it needs."""
    return live_places(enrol_crowd(server, 4), SLOTS)


@pytest.fixture(autouse=True)
def unharmed(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> Iterator[None]:
    """After each test: the same two processes, no lease, and the next good knock opens."""
    pids = server.pids
    yield
    assert server.leases() == []
    assert server.pids == pids
    keys, time_ms, slot = next(places)
    good = keys.knock("web", time_ms=time_ms, slot=slot)
    assert send_all(server, module_lab.clients["alice"], [good], module_lab.server.ipv4) == {"granted": 1}
    server.command("lease", "revoke", keys.perimeter.label)


def body(
    time_ms: int,
    *,
    head: bytes = HEAD,
    action: int = 0,
    lease_s: int = 0,
    source: bytes = bytes(17),
    count: int | None = None,
    names: tuple[bytes, ...] = (b"web",),
    rest: bytes = b"",
) -> bytes:
    """A knock's body by hand, so that it can say what `spa_protocol` would not; cut at the one size."""
    listed = b"".join(bytes([len(name)]) + name for name in names)
    number = bytes([len(names) if count is None else count])
    fields = head + bytes([action]) + time_ms.to_bytes(8, "big") + lease_s.to_bytes(4, "big") + source + number
    return (fields + listed + rest).ljust(BODY_SIZE, b"\0")[:BODY_SIZE]


ODD_NAMES = (
    b"",
    b"a" * 25,
    b"a" * 200,
    b"9web",
    b"-web",
    b"web ",
    b" web",
    b"web\n",
    b"WEB",
    b"we_b",
    b"we.b",
    b"../web",
    b"web;drop",
    b"web'--",
    b"%s%n",
    "wéb".encode(),
)
BAD_BYTES = (*range(0x20), 0x7F, 0x80, 0xC3, 0xFF)
EVERYWHERE = tuple(b"web"[:at] + bytes([byte]) + b"web"[at + 1 :] for at in range(3) for byte in BAD_BYTES)
"""NUL, control and high bytes at each position of a service's name."""


def v4(text: str) -> bytes:
    return b"\x04" + ip_address(text).packed.ljust(16, b"\0")


def v6(text: str) -> bytes:
    return b"\x06" + ip_address(text).packed


MALFORMED: dict[str, Callable[[int], bytes]] = {
    "an unknown action": lambda at: body(at, action=4),
    "an approval of no request": lambda at: body(at, action=2),
    "the last of all actions": lambda at: body(at, action=255),
    "a close for some seconds": lambda at: body(at, action=1, lease_s=30),
    "nine services": lambda at: body(at, names=tuple(b"web%d" % number for number in range(9))),
    "more names than it lists": lambda at: body(at, count=2),
    "fewer names than it lists": lambda at: body(at, count=0),
    "as many names as fit": lambda at: body(at, count=255, names=(b"web",) * 91),
    "a thousand names": lambda at: body(at, count=1000 & 255, names=(b"a",) * 1000),
    "the same name twice": lambda at: body(at, names=(b"web", b"web")),
    "a name that runs past the end": lambda at: body(at, count=1, names=(), rest=b"\xff" + b"a" * 360),
    "padding that is not zero": lambda at: body(at)[:-1] + b"\x01",
    "padding of ones": lambda at: body(at, rest=b"\xff" * 400),
    "an address of no family": lambda at: body(at, source=b"\x00" + bytes([192, 0, 2, 7]).ljust(16, b"\0")),
    "an address of five octets": lambda at: body(at, source=b"\x04" + bytes([192, 0, 2, 7, 1]).ljust(16, b"\0")),
    "an IPv4-mapped address": lambda at: body(at, source=b"\x06" + bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7])),
    "an address of family 1": lambda at: body(at, source=b"\x01" + bytes(16)),
    "an address of family 10": lambda at: body(at, source=b"\x0a" + IPv6Address("2001:db8::1").packed),
    "an address of family 255": lambda at: body(at, source=b"\xff" * 17),
    "a time of 0": lambda at: body(0),
    "a time of 1": lambda at: body(1),
    "a time of 2^63": lambda at: body(1 << 63),
    "a time of 2^64 - 1": lambda at: body((1 << 64) - 1),
    "a time in the next window": lambda at: body(at + 60_000),
    "a time in the window before": lambda at: body(at - 60_000),
    "all zero behind the head": lambda at: HEAD.ljust(BODY_SIZE, b"\0"),
    "all ones behind the head": lambda at: HEAD.ljust(BODY_SIZE, b"\xff"),
}
UNUSABLE = {
    4: ("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    6: ("::", "ff02::1", "ff0e::1"),
}


def test_every_malformed_body_is_refused(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> None:
    made = [(make, *place) for make, place in zip(MALFORMED.values(), places, strict=False)]
    datagrams = [keys.sealed(make(at), time_ms=at, slot=slot) for make, keys, at, slot in made]
    results = send_all(server, module_lab.clients["alice"], datagrams, module_lab.server.ipv4)
    assert results == {"malformed": len(MALFORMED)}


def test_every_odd_service_name_is_refused(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> None:
    names = [*ODD_NAMES, *EVERYWHERE]
    datagrams = [
        keys.sealed(body(at, names=(name,)), time_ms=at, slot=slot)
        for name, (keys, at, slot) in zip(names, places, strict=False)
    ]
    results = send_all(server, module_lab.clients["alice"], datagrams, module_lab.server.ipv6)
    assert results == {"malformed": len(names)}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_any_other_version_type_or_signature_kind_is_refused_unread(
    server: RunningServer, places: Iterator[Place], module_lab: Lab, position: int
) -> None:
    heads = [HEAD[:position] + bytes([value]) + HEAD[position + 1 :] for value in (0, 2, 3, 4, 127, 128, 255)]
    datagrams = [
        keys.sealed(body(at, head=head), time_ms=at, slot=slot)
        for head, (keys, at, slot) in zip(heads, places, strict=False)
    ]
    results = send_all(server, module_lab.clients["alice"], datagrams, module_lab.server.ipv4)
    assert results == {"unknown_version": len(heads)}


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_that_is_not_one_hosts_opens_nothing(
    server: RunningServer, places: Iterator[Place], module_lab: Lab, version: int
) -> None:
    sources = [v4(text) if version == 4 else v6(text) for text in UNUSABLE[version]]
    datagrams = [
        keys.sealed(body(at, source=source), time_ms=at, slot=slot)
        for source, (keys, at, slot) in zip(sources, places, strict=False)
    ]
    results = send_all(server, module_lab.clients["alice"], datagrams, module_lab.server.address(version))
    assert results == {"source_unusable": len(sources)}


@pytest.mark.parametrize(("source", "version"), [(v4("198.51.100.11"), 6), (v6("2001:db8:1::11"), 4)])
def test_an_address_of_the_other_family_opens_nothing(
    server: RunningServer, places: Iterator[Place], module_lab: Lab, source: bytes, version: int
) -> None:
    keys, at, slot = next(places)
    datagram = keys.sealed(body(at, source=source), time_ms=at, slot=slot)
    results = send_all(server, module_lab.clients["alice"], [datagram], module_lab.server.address(version))
    assert results == {"source_family": 1}


def test_a_tag_of_another_time_is_not_live(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> None:
    keys, at, slot = next(places)
    times = (0, 1, at - 86_400_000, at - 900_000, at + 900_000, at + 86_400_000, 1 << 53, (1 << 63) - 1, 1 << 63)
    datagrams = [keys.sealed(body(time_ms), time_ms=time_ms, slot=slot) for time_ms in times]
    datagrams += [keys.sealed(body(at), time_ms=at, slot=slot)[8:].rjust(512, b"\0")]
    admitted = server.counter("knock_admitted")
    assert send_all(server, module_lab.clients["alice"], datagrams, module_lab.server.ipv4) == {}
    assert server.counter("knock_admitted") == admitted


def test_what_is_signed_by_another_key_or_for_another_purpose_is_met_with_silence(
    server: RunningServer, places: Iterator[Place], module_lab: Lab
) -> None:
    def sealed(**wrong: object) -> bytes:
        keys, at, slot = next(places)
        return keys.sealed(body(at), time_ms=at, slot=slot, **wrong)  # type: ignore[arg-type]  # each as its own test

    wrong = [
        sealed(seed=os.urandom(32)),
        sealed(server_identity=os.urandom(32)),
        sealed(domain=Domain.ENROLMENT),
        sealed(domain=Domain.ANSWER),
    ]
    for datagram in wrong:
        assert (
            Laptop(module_lab.clients["alice"], server.folder).ask(datagram, module_lab.server.ipv4, patience_s=0.1)
            is None
        )
    assert server.results()["bad_signature"] >= len(wrong)


def test_an_enrolment_by_a_known_device_enrols_nobody(
    server: RunningServer, places: Iterator[Place], module_lab: Lab
) -> None:
    keys, at, slot = next(places)
    enrolment = Enrolment(at, keys.perimeter.signer.key.public, os.urandom(32), "mallory").body()
    datagram = keys.sealed(enrolment, time_ms=at, slot=slot, domain=Domain.ENROLMENT)
    devices = len(server.json("device", "list"))
    results = send_all(server, module_lab.clients["alice"], [datagram], module_lab.server.ipv4)
    assert results == {"unknown_version": 1}
    assert len(server.json("device", "list")) == devices


REASONS: dict[Refusal, Callable[[Keys], bytes]] = {
    Refusal.UNKNOWN_SERVICE: lambda keys: keys.knock("cellar"),
    Refusal.SERVICE_NOT_ALLOWED: lambda keys: keys.knock("vault"),
    Refusal.MALFORMED: lambda keys: keys.sealed(body(now_ms(), action=4)),
    Refusal.UNKNOWN_VERSION: lambda keys: keys.sealed(body(now_ms(), head=bytes([9, 1, 1]))),
    Refusal.BAD_SIGNATURE: lambda keys: keys.sealed(body(now_ms()), seed=bytes(32)),
    Refusal.NOT_OPENED: lambda keys: keys.knock("web")[:-1] + b"?",
    Refusal.SOURCE_UNUSABLE: lambda keys: keys.knock("web", source=ip_address("224.0.0.1")),
    Refusal.SOURCE_FAMILY: lambda keys: keys.knock("web", source=ip_address("2001:db8:1::11")),
    Refusal.CLOCK_ONLY: lambda keys: keys.sealed(Knock(now_ms()).body(), slot=0, kind=TagKind.CLOCK),
    Refusal.STALE: lambda keys: under_clock_tag(keys, -3600),
    Refusal.EARLY: lambda keys: under_clock_tag(keys, 3600),
}
ABOUT = {
    Refusal.UNKNOWN_SERVICE: "cellar",
    Refusal.SERVICE_NOT_ALLOWED: "vault",
    Refusal.MALFORMED: "unknown action",
    Refusal.UNKNOWN_VERSION: "version 9, type 1, signature kind 1",
    Refusal.SOURCE_UNUSABLE: "224.0.0.1",
    Refusal.SOURCE_FAMILY: "2001:db8:1::11",
}


def under_clock_tag(keys: Keys, off_s: int) -> bytes:
    """A knock as a laptop sends it whose clock is off by so much, under a tag that lasts a day."""
    time_ms = now_ms() + off_s * 1000
    return keys.sealed(Knock(time_ms).body(), time_ms=time_ms, slot=1, kind=TagKind.CLOCK)


@pytest.mark.parametrize("refusal", REASONS, ids=lambda refusal: str(refusal.name).lower())
def test_why_names_the_reason_to_the_operator(server: RunningServer, module_lab: Lab, refusal: Refusal) -> None:
    label = f"why-{refusal.name.lower()}"
    laptop = enrolled(server, module_lab.clients["alice"], label)
    results = send_all(server, laptop.host, [REASONS[refusal](laptop.keys())], module_lab.server.ipv4)
    assert results == {refusal.name.lower(): 1}
    (told,) = server.json("why", label)
    assert (told["reason"], told["source"]) == (refusal.name.lower(), str(laptop.host.ipv4))
    assert told["sentence"] == refusal.sentence(ABOUT.get(refusal, ""), told["skew_ms"])
    assert told["sentence"] in server.command("why", label).stdout
    assert told["sentence"] in server.command("why", str(laptop.host.ipv4)).stdout
    if refusal in (Refusal.STALE, Refusal.EARLY):
        assert 3590 <= abs(told["skew_ms"]) / 1000 <= 3610


def test_a_stranger_is_no_line_in_the_log_and_no_refusal(server: RunningServer, module_lab: Lab) -> None:
    lines, told = server.log_lines(), server.json("why")
    stranger = module_lab.clients["stranger"]
    garbage = [os.urandom(size) for size in (0, 1, 8, 511, 512, 512, 512, 513, 1400, 9000, 65_000)]
    for to in (module_lab.server.ipv4, module_lab.server.ipv6):
        assert send_all(server, stranger, garbage, to) == {}
    assert server.log_lines() == lines
    assert server.json("why") == told
    assert server.json("why", str(stranger.ipv4)) == []
