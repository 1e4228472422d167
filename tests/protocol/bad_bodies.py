"""Bodies that must be refused, whoever signed them (docs/protocol.md, sections 4.2 to 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spa_protocol.answer import Answer
from spa_protocol.body import BodyWriter, FieldWriter, MessageType
from spa_protocol.knock import Action, Knock
from spa_protocol.posture import Posture
from tests.protocol import bad_certificates, world

FAMILY_AT = {"knock": 16, "answer": 12}


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """(kind, reason, body)."""
    yield from (("knock-body", *each) for each in _knock_bodies())
    yield from (("enrolment-body", *each) for each in _enrolment_bodies())
    yield from (("answer-body", *each) for each in _answer_bodies())


def _put(body: bytes, at: int, *values: int) -> bytes:
    return body[:at] + bytes(values) + body[at + len(values) :]


def _heads(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "version 0", _put(body, 0, 0)
    yield "version 2", _put(body, 0, 2)
    for message_type in sorted({0, 1, 2, 3, 4, 255} - {body[1]}):
        yield f"type {message_type}", _put(body, 1, message_type)
    yield "signature kind 0", _put(body, 2, 0)
    yield "signature kind 2", _put(body, 2, 2)
    yield "399 bytes", body[:-1]
    yield "401 bytes", body + b"\0"
    yield "padding that is not zero, at the end", _put(body, 399, 1)


def _addresses(body: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    yield "IPv4 address with filler that is not zero", _put(body, at, 4, 192, 0, 2, 7, *[0] * 11, 1)
    yield "IPv4-mapped IPv6 address", _put(body, at, 6, *[0] * 10, 255, 255, 192, 0, 2, 7)
    yield "address family 1", _put(body, at, 1, *[0] * 16)
    yield "address family 5", _put(body, at, 5, *[0] * 16)


def _knock_bodies() -> Iterator[tuple[str, bytes]]:
    body = Knock(world.TIME_MS, ("web",)).body()
    yield from _heads(body)
    yield "action 4", _put(body, 3, 4)
    yield "action 255", _put(body, 3, 255)
    yield "close with a lease", _put(Knock(world.TIME_MS, ("web",), action=Action.CLOSE).body(), 15, 30)
    yield from _addresses(body, FAMILY_AT["knock"])
    yield "no source, yet an address", _put(body, FAMILY_AT["knock"], 0, 192, 0, 2, 7)
    yield "padding that is not zero, right after the fields", _put(body, 44, 1)
    yield "padding that is not zero, in the first of the last 5 bytes", _put(body, 395, 1)
    yield "nine services", _raw_knock(*(f"s{i}".encode() for i in range(9)))
    yield "255 services", _put(body, 33, 255)
    yield "fewer services than it holds", _put(body, 33, 0)
    yield "more services than it holds", _put(body, 33, 2)
    yield "a service named twice", _raw_knock(b"web", b"ssh", b"web")
    yield "a name that runs past the end", _put(body, 34, 255)
    for reason, name in {
        "empty service name": b"",
        "service name of 25 characters": b"a" * 25,
        "service name in upper case": b"Web",
        "service name that starts with a digit": b"8web",
        "service name that starts with -": b"-web",
        "service name with a line feed": b"web\n",
        "service name with NUL": b"web\0",
        "service name that is not ASCII": "wéb".encode(),
        "service name with _": b"my_web",
    }.items():
        yield reason, _raw_knock(name)
    yield from _delegated_bodies()
    yield from _bodies_in_context()


def _bodies_in_context() -> Iterator[tuple[str, bytes]]:
    none, posture = b"\0", _posture()
    certificate = b"\1" + world.certificate().to_bytes()
    yield "two postures", _raw_knock(b"web", more=none + b"\2" + posture * 2)
    yield "a posture though none follows", _raw_knock(b"web", more=none + b"\0" + posture)
    yield "a posture, and there is none", _raw_knock(b"web", more=none + b"\1")
    yield "a posture of source 0", _raw_knock(b"web", more=none + b"\1" + _put(posture, 4, 0))
    yield "a posture of source 3", _raw_knock(b"web", more=none + b"\1" + _put(posture, 4, 3))
    for place in range(4):
        yield f"fact {place} is 3", _raw_knock(b"web", more=none + b"\1" + _put(posture, 5, 3 << 2 * place))
    yield "a system of 25 characters", _raw_knock(b"web", more=none + b"\1" + _put(posture, 12, 25) + b"a" * 25)
    yield "a system with a line feed", _raw_knock(b"web", more=none + b"\1" + _put(posture, 12, 1) + b"\n")
    yield "a system with DEL", _raw_knock(b"web", more=none + b"\1" + _put(posture, 12, 1) + b"\x7f")
    yield "a system that is not ASCII", _raw_knock(b"web", more=none + b"\1" + _put(posture, 12, 2) + "é".encode())
    for reason, code in {
        "code of 5 digits": b"12345",
        "code of 9 digits": b"123456789",
        "code of letters": b"abcdef",
        "code with a sign": b"-12345",
        "code that is not ASCII": "١٢٣".encode(),
    }.items():
        yield reason, _raw_knock(b"web", more=none + none + bytes([len(code)]) + code)
    yield "a request to open", _raw_knock(more=none + none + none + _request(1))
    yield "a request to close", _raw_knock(more=none + none + none + _request(1), action=1)
    yield "approve no request", _raw_knock(action=2)
    yield "deny no request", _raw_knock(action=3)
    yield "deny for some time", _raw_knock(more=none * 3 + _request(1), action=3, lease_s=1)
    yield "approve a request and a service", _raw_knock(b"web", more=none * 3 + _request(1), action=2)
    yield "approve for a source", _put(_raw_knock(more=none * 3 + _request(1), action=2), 16, 4, 192, 0, 2, 7)
    yield "a delegate with a posture", _raw_knock(b"web", more=certificate + b"\1" + posture)
    yield "a delegate with a code", _raw_knock(b"web", more=certificate + none + b"\x06755224")
    yield "a delegate who approves", _raw_knock(more=certificate + none + none + _request(1), action=2)


def _posture() -> bytes:
    writer = FieldWriter()
    Posture(75).write(writer)
    return writer.written()


def _request(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _delegated_bodies() -> Iterator[tuple[str, bytes]]:
    certificate = world.certificate().to_bytes()
    yield "a certificate follows, and there is none", _raw_knock(b"web", more=b"\1")
    yield "a certificate though none follows", _raw_knock(b"web", more=b"\0" + certificate)
    yield "two certificates, counted", _raw_knock(b"web", more=b"\2" + certificate * 2)
    yield "two certificates, one announced", _raw_knock(b"web", more=b"\1" + certificate * 2)
    yield "two certificates, each announced", _raw_knock(b"web", more=(b"\1" + certificate) * 2)
    yield "255 certificates", _raw_knock(b"web", more=b"\xff" + certificate)
    yield "padding that is not zero, right after a certificate", _raw_knock(b"web", more=b"\1" + certificate + b"\1")
    yield "five services and a certificate", _raw_knock(b"a", b"b", b"c", b"d", b"e", more=b"\1" + certificate)
    yield "close with a lease, delegated", _raw_knock(b"web", more=b"\1" + certificate, action=1, lease_s=30)
    yield "a certificate whose name runs past the end", _raw_knock(more=b"\1" + certificate[:48] + b"\xff" * 200)
    for reason, each in bad_certificates.forms():
        yield f"certificate: {reason}", _raw_knock(b"web", more=b"\1" + each)


def _raw_knock(*names: bytes, more: bytes = b"", action: int = 0, lease_s: int = 0) -> bytes:
    writer = BodyWriter(MessageType.KNOCK)
    writer.raw(bytes([action]) + world.TIME_MS.to_bytes(8, "big") + lease_s.to_bytes(4, "big") + bytes(17))
    writer.raw(bytes([len(names)]) + b"".join(bytes([len(name)]) + name for name in names) + more)
    return writer.finish()


def _enrolment_bodies() -> Iterator[tuple[str, bytes]]:
    body = world.enrolment().body()
    yield from _heads(body)
    yield "flags 1", _put(body, 3, 1)
    yield "flags 128", _put(body, 3, 128)
    yield "padding that is not zero, right after the fields", _put(body, 78 + len("alice-laptop"), 1)
    yield "a label that runs past the end", _put(_labelled(b"a"), 76, 255)
    for reason, label in {
        "empty label": b"",
        "label of 64 characters": b"a" * 64,
        "label that starts with -": b"-laptop",
        "label that starts with .": b".laptop",
        "label with a space": b"alice laptop",
        "label with an escape": b"a\x1b[2J",
        "label that is not ASCII": "büro".encode(),
    }.items():
        yield reason, _labelled(label)
    for reason, application in {
        "application without ssh:": b"office",
        "application of 65 characters": b"ssh:" + b"a" * 61,
        "application with a line feed": b"ssh:\n",
        "application with DEL": b"ssh:\x7f",
        "application that is not ASCII": "ssh:büro".encode(),
    }.items():
        yield reason, _put(body, 77 + len("alice-laptop"), len(application), *application)
    yield "an application that runs past the end", _put(body, 77 + len("alice-laptop"), 255)


def _labelled(label: bytes) -> bytes:
    body = replace(world.enrolment(), label="a").body()
    return (body[:76] + bytes([len(label)]) + label).ljust(len(body), b"\0")


def _answer_bodies() -> Iterator[tuple[str, bytes]]:
    body = world.answer().body()
    bare = Answer(None, world.TIME_MS, world.answer().seen, 40_000, 16).body()
    yield from _heads(body)
    for at, field, values in ((3, "outcome", (38, 255)), (31, "slots", (0, 65, 255))):
        yield from ((f"{field} {value}", _put(body, at, value)) for value in values)
    yield from _addresses(body, FAMILY_AT["answer"])
    yield "no address seen", _put(body, FAMILY_AT["answer"], *[0] * 17)
    yield "about of 64 characters", _put(bare, 32, 64, *b"a" * 64)
    yield "about with a line feed", _put(bare, 32, 1, 10)
    yield "about with DEL", _put(bare, 32, 1, 127)
    yield "about that is not ASCII", _put(bare, 32, 2, *"é".encode())
    yield "nine services", _put(bare, 33, 9, *(b"\1a" + bytes(9)) * 9)
    yield "a hash of record 0", _put(bare, 34, *bytes(8), 1)
    yield "service with flag 2", _put(bare, 33, 1, 1, ord("a"), *[0] * 8, 2)
    yield "service without a name", _put(bare, 33, 1, *[0] * 10)
    yield "service name in upper case", _put(bare, 33, 1, 1, ord("A"), *[0] * 9)
