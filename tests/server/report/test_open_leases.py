"""How many leases were open at once, against a count by hand at every second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_server.report.open_leases import OpenLeases
from spa_server.report.period import Period
from spa_server.tell import event_types
from spa_server.tell.events import Event
from spa_server.tell.reading import Record, parsed
from tests.server.report.trails import HOUR_MS, ROOT, START_MS, knock, line

PERIOD = Period(START_MS, START_MS + HOUR_MS)
SERVICES = ("web", "ssh")
DEVICES = ("alice-laptop", "bob-laptop")


def record(event: Event, at_s: float) -> Record:
    found = parsed(line(1, event, START_MS + round(at_s * 1000)))
    assert found is not None
    return found


def grant(device: str = "alice-laptop", service: str = "web", seconds: int = 30, **other: str) -> Event:
    return knock(device, services=((service, seconds),), **other)


def gone(device: str = "alice-laptop", service: str = "web") -> Event:
    return Event(event_types.CLOSED, "closed", device=device, source=ip_address("192.0.2.7"), services=((service, 0),))


def counted(*told: tuple[Event, float], period: Period = PERIOD) -> OpenLeases:
    leases = OpenLeases(period)
    for event, at_s in told:
        leases.note(record(event, at_s))
    leases.finish()
    return leases


@dataclass(frozen=True)
class Did:
    """A device got a lease of so many seconds, or gave it back where there are none."""

    at_s: int
    device: str
    service: str
    seconds: int


DONE = st.builds(
    Did,
    st.one_of(st.integers(-300, 3500), st.integers(-5, 58).map(lambda minute: minute * 60)),
    st.sampled_from(DEVICES),
    st.sampled_from(SERVICES),
    st.one_of(st.just(0), st.integers(1, 900), st.sampled_from([60, 120, 300])),
)


def by_hand(done: list[Did]) -> dict[str, list[int]]:
    """The most at once in each minute, second by second; a lease ends in the second in which another may begin."""
    peaks = {service: [0] * PERIOD.steps for service in SERVICES}
    ends: dict[tuple[str, str], int] = {}
    for now_s in range(-300, 3600):
        ends = {key: end_s for key, end_s in ends.items() if end_s > now_s}
        for did in [each for each in done if each.at_s == now_s]:
            key = (did.service, did.device)
            if did.seconds:
                ends[key] = max(ends.get(key, 0), now_s + did.seconds)
            else:
                ends.pop(key, None)
            if now_s >= 0:
                count = sum(service == did.service for service, _ in ends)
                peaks[did.service][now_s * 1000 // PERIOD.step_ms] = max(
                    peaks[did.service][now_s * 1000 // PERIOD.step_ms], count
                )
        if now_s >= 0:
            step = now_s * 1000 // PERIOD.step_ms
            for service in SERVICES:
                peaks[service][step] = max(peaks[service][step], sum(name == service for name, _ in ends))
    return peaks


@given(st.lists(DONE, max_size=25))
def test_the_most_in_each_step_is_what_counting_every_second_finds(done: list[Did]) -> None:
    done.sort(key=lambda each: each.at_s)
    leases = counted(
        *(
            (grant(did.device, did.service, did.seconds) if did.seconds else gone(did.device, did.service), did.at_s)
            for did in done
        )
    )
    expected = by_hand(done)
    assert {service: leases.peaks[service] for service in SERVICES} == expected


def test_a_renewal_is_the_same_lease() -> None:
    leases = counted(*((grant(), at_s) for at_s in range(0, 300, 15)))
    assert leases.most == 1
    assert leases.peaks["web"][:7] == [1, 1, 1, 1, 1, 1, 0]


def test_a_delegate_and_another_source_are_leases_of_their_own() -> None:
    leases = counted((grant(), 0), (knock(delegate="ci"), 1), (knock(source="192.0.2.8"), 2))
    assert leases.most == 3


def test_what_was_open_before_the_period_counts_in_it() -> None:
    leases = counted((grant(seconds=600), -300))
    assert leases.most == 1
    assert leases.peaks["web"][:6] == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("ended", "left"),
    [({"device": "alice-laptop"}, 1), ({"source": ip_address("192.0.2.7")}, 0), ({"device": "alice-laptop+ci"}, 2)],
)
def test_an_operator_ends_what_was_named(ended: dict[str, object], left: int) -> None:
    revoked = Event(event_types.REVOKED, "end", actor=ROOT, **ended)  # type: ignore[arg-type]
    alice, bob = (grant(f"{name}-laptop", seconds=600) for name in ("alice", "bob"))
    delegate = knock(services=(("web", 600),), delegate="ci")
    leases = counted((alice, 0), (delegate, 1), (bob, 2), (revoked, 30))
    assert leases.peaks["web"][:2] == [3, left]


def test_what_the_server_cut_is_open_no_more_and_a_session_that_is_over_ends_no_renewal() -> None:
    cut = Event(replace(event_types.REVOKED, name="cut"), "cut", device="alice-laptop", services=(("web", 0),))
    over = replace(cut, type=replace(event_types.REVOKED, name="session-ended"))
    leases = counted((grant(seconds=600), 0), (grant(service="ssh", seconds=600), 1), (cut, 30), (over, 31))
    assert [leases.peaks[name][1] for name in SERVICES] == [0, 1]


def test_a_clock_that_was_far_ahead_leaves_nothing_open_behind() -> None:
    year_s = 365 * 86_400.0
    bob, carol, dave = (grant(f"{name}-laptop") for name in ("bob", "carol", "dave"))
    leases = counted((grant(), 0), (bob, year_s), (carol, 10), (dave, 600))
    assert leases.peaks["web"][10] == 1
    assert leases.most <= 2
