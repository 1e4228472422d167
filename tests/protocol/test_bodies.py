"""Bodies: every meaning has one form, every form one meaning, and nothing is written that would not be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.answer import Answer, AnsweredService, Checkpoint
from spa_protocol.body import MalformedBody
from spa_protocol.enrolment import Enrolment
from spa_protocol.knock import Action, Knock
from spa_protocol.refusal import Refusal
from spa_protocol.seal import BODY_SIZE
from tests.protocol import world
from tests.protocol.strategies import answers, enrolments, knocks

Message = Knock | Enrolment | Answer

MAPPED = IPv6Address("::ffff:192.0.2.7")
ZONED = IPv6Address("fe80::1%eth0")
CERTIFICATE = world.certificate()
LAST = Checkpoint(1, b"\xff" * 16)
SERVICE = AnsweredService("web", 30, 443, 0, False)


@given(knocks | enrolments | answers)
def test_a_body_reads_back_as_what_was_written(message: Message) -> None:
    body = message.body()
    assert len(body) == BODY_SIZE
    assert type(message).parse(body) == message


@given(knocks | enrolments | answers, st.data())
def test_a_changed_body_is_refused_or_says_something_else_in_its_one_form(
    message: Message, data: st.DataObject
) -> None:
    body = bytearray(message.body())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, BODY_SIZE - 1))] = data.draw(st.integers(0, 255))
    try:
        read = type(message).parse(bytes(body))
    except MalformedBody:
        return
    assert read.body() == bytes(body)


@pytest.mark.parametrize(
    "message",
    [
        Knock(world.TIME_MS, ("web",)),
        Knock(world.TIME_MS, ("web",), certificate=CERTIFICATE),
        world.enrolment(),
        world.enrolment(world.SECURITY_KEY.key),
        world.answer(),
    ],
    ids=["knock", "delegated knock", "enrolment", "enrolment of a security key", "answer"],
)
def test_no_byte_of_padding_may_be_anything_but_zero(message: Message) -> None:
    body = message.body()
    for at in range(_length_of_fields(message), BODY_SIZE):
        for value in (1, 0x80, 0xFF):
            with pytest.raises(MalformedBody):
                type(message).parse(body[:at] + bytes([value]) + body[at + 1 :])


def _length_of_fields(message: Message) -> int:
    """Without the zeros that pad it; what is left out at the end of a body has a form of zeros itself."""
    if isinstance(message, Enrolment):
        return len(message.body().rstrip(b"\0")) + 1
    longest = replace(message, checkpoint=LAST) if isinstance(message, Answer) else message
    if isinstance(longest, Knock):
        code, request = 1, 4
        certificate = 0 if longest.certificate is None else len(longest.certificate.to_bytes())
        return 34 + sum(1 + len(name) for name in longest.services) + 1 + certificate + 1 + code + request
    return len(longest.body().rstrip(b"\0"))


@pytest.mark.parametrize("parse", [Knock.parse, Enrolment.parse, Answer.parse])
def test_a_body_of_another_size_is_malformed(parse: Callable[[bytes], Message]) -> None:
    for body in (Knock(0).body(), world.enrolment().body(), world.answer().body()):
        for size in range(BODY_SIZE):
            with pytest.raises(MalformedBody):
                parse(body[:size])
        with pytest.raises(MalformedBody):
            parse(body + b"\0")


@pytest.mark.parametrize("time_ms", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_times_reach_from_zero_to_the_last_of_64_bits(time_ms: int) -> None:
    for message in (
        Knock(time_ms),
        replace(world.enrolment(), time_ms=time_ms),
        replace(world.answer(), time_ms=time_ms),
    ):
        assert type(message).parse(message.body()) == message


def test_every_refusal_can_be_answered_and_no_other_outcome_is_read() -> None:
    body = bytearray(Answer(None, 0, IPv4Address("0.0.0.0"), 0, 16).body())
    known = {0, *(refusal.code for refusal in Refusal)}
    for outcome in range(256):
        body[3] = outcome
        if outcome in known:
            refusal = Answer.parse(bytes(body)).refusal
            assert outcome == (refusal.code if refusal else 0)
        else:
            with pytest.raises(MalformedBody):
                Answer.parse(bytes(body))


def test_an_answer_tells_of_1_to_64_slots_and_no_other_number_is_read() -> None:
    body = bytearray(world.answer().body())
    for slots in range(256):
        body[31] = slots
        if 1 <= slots <= 64:
            assert Answer.parse(bytes(body)).slots == slots
        else:
            with pytest.raises(MalformedBody):
                Answer.parse(bytes(body))


@pytest.mark.parametrize(
    "message",
    [
        Knock(-1),
        Knock(2**64),
        Knock(0, lease_s=-1),
        Knock(0, lease_s=2**32),
        Knock(0, source=MAPPED),
        Knock(0, source=ZONED),
        Knock(0, services=("Web",)),
        Knock(0, services=("",)),
        Knock(0, services=("a" * 25,)),
        Knock(0, services=("web\n",)),
        Knock(0, services=("wéb",)),
        Knock(0, services=("web", "web")),
        Knock(0, services=tuple(f"s{i}" for i in range(9))),
        Knock(0, lease_s=30, action=Action.CLOSE),
        Knock(0, services=tuple(f"s{i}" for i in range(5)), certificate=CERTIFICATE),
        Knock(0, certificate=replace(CERTIFICATE, name="")),
        Knock(0, certificate=replace(CERTIFICATE, name="a" * 25)),
        Knock(0, certificate=replace(CERTIFICATE, name="alice+ci")),
        Knock(0, certificate=replace(CERTIFICATE, services=())),
        Knock(0, certificate=replace(CERTIFICATE, services=("web", "web"))),
        Knock(0, certificate=replace(CERTIFICATE, services=("a", "b", "c", "d", "e"))),
        Knock(0, certificate=replace(CERTIFICATE, services=("Web",))),
        Knock(0, certificate=replace(CERTIFICATE, key=b"short")),
        Knock(0, certificate=replace(CERTIFICATE, issued_s=CERTIFICATE.expires_s)),
        Knock(0, certificate=replace(CERTIFICATE, issued_s=-1)),
        Knock(0, certificate=replace(CERTIFICATE, expires_s=2**64)),
        replace(world.enrolment(), time_ms=2**64),
        replace(world.enrolment(), label=""),
        replace(world.enrolment(), label="-laptop"),
        replace(world.enrolment(), label="a" * 64),
        replace(world.enrolment(), label="alice laptop"),
        replace(world.enrolment(), application="office"),
        replace(world.enrolment(), application="ssh:" + "a" * 61),
        replace(world.enrolment(), application="ssh:\n"),
        replace(world.enrolment(), device_key=b"short"),
        replace(world.enrolment(), exchange=b"long" * 9),
        replace(world.answer(), time_ms=-1),
        replace(world.answer(), seen=MAPPED),
        replace(world.answer(), seen=ZONED),
        replace(world.answer(), seen_port=65_536),
        replace(world.answer(), slots=0),
        replace(world.answer(), slots=65),
        replace(world.answer(), about="two\nlines"),
        replace(world.answer(), about="é"),
        replace(world.answer(), about="a" * 64),
        replace(world.answer(), services=(SERVICE,) * 9),
        replace(world.answer(), services=(replace(SERVICE, name="Web"),)),
        replace(world.answer(), services=(replace(SERVICE, left_s=2**32),)),
        replace(world.answer(), services=(replace(SERVICE, tcp_port=65_536),)),
        replace(world.answer(), services=(replace(SERVICE, udp_port=-1),)),
    ],
    ids=str,
)
def test_what_would_not_be_read_back_is_not_written(message: Message) -> None:
    with pytest.raises(ValueError, match=r".+"):
        message.body()
