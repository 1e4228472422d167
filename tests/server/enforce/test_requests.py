"""The messages between the two processes: strict, and each what it was."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spa_server.enforce.held import MAX_HELD, Held
from spa_server.enforce.requests import (
    MAX_SERVICES,
    MAX_TAGS,
    Answer,
    Arm,
    Counters,
    Disarm,
    Malformed,
    Open,
    Reload,
    Request,
    Revoke,
    Status,
    Wanted,
    sequence_of,
    unpack_request,
)

sequences = st.integers(0, 2**32 - 1)
tags = st.lists(st.binary(min_size=8, max_size=8), max_size=20).map(tuple)
labels = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
wanted = st.builds(Wanted, st.integers(0, 65535), sequences)
services_wanted = st.lists(wanted, max_size=MAX_SERVICES).map(tuple)
four, six = st.ip_addresses(v=4), st.ip_addresses(v=6)
times = st.integers(0, (1 << 64) - 1)
digests = st.binary(min_size=8, max_size=8)
opens = st.builds(Open, sequences, times, digests, four, four, labels, services_wanted) | st.builds(
    Open, sequences, times, digests, six, six, labels, services_wanted
)
services = st.integers(0, 65535)
held = st.builds(Held, labels, four, four, services) | st.builds(Held, labels, six, six, services)
requests: st.SearchStrategy[Request] = (
    st.builds(Arm, sequences, sequences, tags)
    | st.builds(Disarm, sequences, tags)
    | opens
    | st.builds(Reload, sequences, digests)
    | st.builds(Counters, sequences)
    | st.builds(Revoke, sequences, digests, st.lists(held, max_size=5).map(tuple))
)
answers = st.builds(Answer, sequences, st.sampled_from(Status), st.lists(times, max_size=100).map(tuple))


@given(requests)
def test_a_request_comes_out_as_it_went_in(request: Request) -> None:
    assert unpack_request(request.pack()) == request
    assert sequence_of(request.pack()) == request.sequence


@given(answers)
def test_an_answer_comes_out_as_it_went_in(answer: Answer) -> None:
    assert Answer.unpack(answer.pack()) == answer


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_that_packs_to_them_or_malformed(data: bytes) -> None:
    try:
        request = unpack_request(data)
    except Malformed:
        return
    assert request.pack() == data


@given(requests)
@example(Arm(0, 0, ()))
def test_a_cut_or_longer_request_is_malformed(request: Request) -> None:
    packed = request.pack()
    for damaged in (*(packed[:length] for length in range(len(packed))), packed + b"\0"):
        with pytest.raises(Malformed):
            unpack_request(damaged)


def test_the_largest_of_each_fits_a_packet() -> None:
    one = ip_address("2001:db8::1")
    services = tuple(Wanted(number, 300) for number in range(MAX_SERVICES))
    for request in (
        Arm(1, 60_000, (bytes(8),) * MAX_TAGS),
        Open(1, 0, bytes(8), one, one, "a" * 63, services),
        Revoke(1, bytes(8), (Held("a" * 88, one, one, 65535),) * MAX_HELD),
    ):
        assert len(request.pack()) < 65536
        assert unpack_request(request.pack()) == request


@pytest.mark.parametrize("request_", [Arm(1, 1, (bytes(8),) * (MAX_TAGS + 1)), Disarm(1, (bytes(8),) * (MAX_TAGS + 1))])
def test_too_many_are_malformed(request_: Request) -> None:
    with pytest.raises(Malformed):
        unpack_request(request_.pack())
