"""What one datagram comes to, case by case: what is answered, granted and noted, and what meets silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from spa_protocol.seal import BODY_SIZE, Domain, seal
from spa_protocol.signature import SeedSigner
from spa_protocol.tag import TagKind, TagPosition, compute_tag
from spa_server.enforce.client import FirewallFailed
from tests.server.listen.verdicts import heard, verdict
from tests.server.listen.world import (
    IDENTITY,
    PATH,
    PATH6,
    SKEW_MS,
    START,
    Keyring,
    ListeningServer,
    damaged,
    later,
    secret,
)

T_MS = START.wall_ms


@pytest.fixture
def alice(server: ListeningServer) -> Keyring:
    return server.add("alice-laptop")


def noted(server: ListeningServer) -> list[str]:
    """The reasons that `why` would tell, the newest first."""
    return [refused.reason for refused in server.ring.recent()]


def test_a_good_knock_is_granted_once_and_told_what_it_got(server: ListeningServer, alice: Keyring) -> None:
    datagram = alice.knock(T_MS, 0, "web", lease_s=20)
    answer = alice.answer(server.hear(datagram, START), datagram)
    assert answer is not None
    assert (answer.refusal, answer.seen, answer.seen_port, answer.time_ms) == (None, PATH.source, 40_000, T_MS)
    assert [(told.name, told.left_s, told.tcp_port) for told in answer.services] == [("web", 20, 8443)]
    ((grant, label),) = server.firewall.granted
    assert (grant.source, grant.destination, label) == (PATH.source, PATH.destination, "alice-laptop")
    assert server.hear(datagram, START) is None
    assert len(server.firewall.granted) == 1


def test_each_family_is_its_own_knock(server: ListeningServer, alice: Keyring) -> None:
    for slot, path in enumerate((PATH, PATH6)):
        assert server.hear(alice.knock(T_MS, slot, "web"), START, path) is not None
    assert [grant.source for grant, _ in server.firewall.granted] == [PATH.source, PATH6.source]


def test_the_record_refuses_what_passes_the_gate_again_after_a_restart(server: ListeningServer, alice: Keyring) -> None:
    datagram = alice.knock(T_MS, 0, "web")
    assert heard(server, alice, datagram) == "granted"
    server.restart(START)
    assert heard(server, alice, datagram) is Refusal.ALREADY_USED
    assert len(server.firewall.granted) == 1


def test_a_slot_used_before_a_restart_meets_silence_at_the_gate(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir(mode=0o700)
    server = ListeningServer(tmp_path / "gate", START, gate_knows_used=True)
    alice = server.add("alice-laptop")
    datagram = alice.knock(T_MS, 0, "web")
    assert heard(server, alice, datagram) == "granted"
    server.restart(START)
    assert heard(server, alice, datagram) == "silence"
    assert heard(server, alice, alice.knock(T_MS, 1, "web")) == "granted"
    server.close()


def test_another_datagram_under_the_same_tag_is_refused_too(server: ListeningServer, alice: Keyring) -> None:
    assert heard(server, alice, alice.knock(T_MS, 0, "web")) == "granted"
    server.restart(START)
    assert heard(server, alice, alice.knock(T_MS + 5, 0, "web")) is Refusal.ALREADY_USED


@pytest.mark.parametrize(
    ("after_ms", "expected"),
    [(SKEW_MS, "granted"), (SKEW_MS + 1, Refusal.STALE), (-SKEW_MS, "granted"), (-SKEW_MS - 1, Refusal.EARLY)],
)
def test_freshness_is_told_to_the_millisecond(
    server: ListeningServer, alice: Keyring, after_ms: int, expected: Refusal | str
) -> None:
    assert heard(server, alice, alice.knock(T_MS, 0, "web"), after_ms) == expected


@pytest.mark.parametrize(("hours", "expected"), [(-5, Refusal.STALE), (5, Refusal.EARLY), (0, Refusal.CLOCK_ONLY)])
def test_a_clock_tag_opens_nothing_and_tells_what_is_wrong_with_the_clock(
    server: ListeningServer, alice: Keyring, hours: int, expected: Refusal
) -> None:
    datagram = alice.knock(T_MS + hours * 3_600_000, 0, "web", kind=TagKind.CLOCK)
    assert heard(server, alice, datagram) is expected
    assert not server.firewall.granted
    assert server.ring.recent()[0].skew_ms == (hours * 3_600_000 if hours else 0)


def with_other_signature(alice: Keyring) -> bytes:
    return alice.knock(T_MS, 0, "web", seed=secret("a thief"))


def with_broken_seal(alice: Keyring) -> bytes:
    return damaged(alice.knock(T_MS, 0, "web"))


def with_zeros_behind_the_tag(alice: Keyring) -> bytes:
    return alice.knock(T_MS, 0, "web")[:8].ljust(512, b"\0")


def with_body(alice: Keyring, body: bytes, seed: bytes | None = None) -> bytes:
    """A sealed datagram with any body at all."""
    return seal(
        seal_key=alice.channel.request_seal,
        signer=SeedSigner(seed or alice.seed),
        domain=Domain.KNOCK,
        server_identity=IDENTITY.public,
        tag=compute_tag(alice.channel, TagPosition(TagKind.KNOCK, TagKind.KNOCK.window(T_MS), 0)),
        nonce=bytes(24),
        body=body.ljust(BODY_SIZE, b"\0"),
    )


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (with_other_signature, "BAD_SIGNATURE"),
        (with_broken_seal, "NOT_OPENED"),
        (with_zeros_behind_the_tag, "NOT_OPENED"),
        (lambda alice: with_body(alice, b"\x02\x01\x01"), "UNKNOWN_VERSION"),
        (lambda alice: with_body(alice, b"\x01\x02\x01"), "UNKNOWN_VERSION"),
        (lambda alice: with_body(alice, b"\x01\x09\x01"), "UNKNOWN_VERSION"),
        (lambda alice: with_body(alice, b"\x01\x01\x02"), "UNKNOWN_VERSION"),
        (lambda alice: with_body(alice, b"\x01\x01\x01\x01", secret("a thief")), "BAD_SIGNATURE"),
    ],
)
def test_what_is_not_verified_meets_silence_and_is_noted(
    server: ListeningServer, alice: Keyring, made: Callable[[Keyring], bytes], reason: str
) -> None:
    assert server.hear(made(alice), START) is None
    assert noted(server) == [reason]
    assert not server.firewall.granted
    assert heard(server, alice, alice.knock(T_MS, 1, "web")) == "granted"


def test_a_forged_datagram_costs_its_tag_so_there_can_be_no_more_of_them_than_slots(
    server: ListeningServer, alice: Keyring
) -> None:
    for _ in range(5):
        assert server.hear(with_other_signature(alice), START) is None
    assert noted(server) == ["BAD_SIGNATURE"]
    assert server.account.counts.results["unknown_tag"] == 4


def test_a_signed_body_that_breaks_a_rule_is_told_so(server: ListeningServer, alice: Keyring) -> None:
    assert heard(server, alice, with_body(alice, b"\x01\x01\x01\x01")) is Refusal.MALFORMED


def test_when_the_kernel_fails_nothing_is_granted_and_the_answer_says_so(
    server: ListeningServer, alice: Keyring
) -> None:
    server.firewall.opening_fails = True
    datagram = alice.knock(T_MS, 0, "web")
    assert heard(server, alice, datagram) is Refusal.KERNEL_FAILED
    server.firewall.opening_fails = False
    server.restart(START)
    assert heard(server, alice, datagram) is Refusal.ALREADY_USED, "its one chance is gone, whatever the kernel did"
    assert not server.firewall.granted


def test_when_the_use_cannot_be_recorded_nothing_is_granted_and_the_answer_says_so(
    server: ListeningServer, alice: Keyring
) -> None:
    server.store.rows("PRAGMA query_only=ON")
    assert heard(server, alice, alice.knock(T_MS, 0, "web")) is Refusal.NOT_RECORDED
    assert not server.firewall.granted
    server.store.rows("PRAGMA query_only=OFF")
    assert heard(server, alice, alice.knock(T_MS, 1, "web")) == "granted"


def test_an_edit_counts_from_the_very_next_datagram(server: ListeningServer, alice: Keyring) -> None:
    server.registry.set_enabled("alice-laptop", False)
    assert heard(server, alice, alice.knock(T_MS, 0, "web")) is Refusal.DEVICE_DISABLED
    server.registry.set_enabled("alice-laptop", True)
    assert heard(server, alice, alice.knock(T_MS, 1, "web")) == "granted"
    server.registry.remove("alice-laptop")
    assert heard(server, alice, alice.knock(T_MS, 2, "web")) == "silence"


def test_an_edit_that_cannot_be_taken_in_judges_nothing(server: ListeningServer, alice: Keyring) -> None:
    server.firewall.arming_fails = True
    server.registry.remove("alice-laptop")
    assert heard(server, alice, alice.knock(T_MS, 0, "web")) == "silence"
    assert not server.firewall.granted


def test_after_another_boot_only_windows_after_the_start_are_open(server: ListeningServer, alice: Keyring) -> None:
    rebooted = later(START, 30_000, 0)
    server.restart(rebooted, "boot-2")
    assert server.hear(alice.knock(T_MS, 0, "web"), rebooted) is None
    first_ms = ((rebooted.wall_ms + SKEW_MS) // 60_000 + 1) * 60_000
    ahead = later(rebooted, first_ms - rebooted.wall_ms)
    server.membership.keep_time(ahead)
    assert server.hear(alice.knock(ahead.wall_ms - 1, 0, "web"), ahead) is None
    assert server.hear(alice.knock(ahead.wall_ms, 0, "web"), ahead) is not None
    assert len(server.firewall.granted) == 1


def test_a_clock_step_that_could_not_be_followed_is_followed_later(server: ListeningServer, alice: Keyring) -> None:
    """Windows that are armed already live too short in the kernel after a step back, so they are armed anew."""
    stepped = later(START, -50_000, 0)
    server.firewall.arming_fails = True
    with pytest.raises(FirewallFailed):
        server.membership.keep_time(stepped)
    server.firewall.arming_fails = False
    server.membership.keep_time(stepped)
    window = TagKind.KNOCK.window(stepped.wall_ms)
    tag = compute_tag(alice.channel, TagPosition(TagKind.KNOCK, window, 0))
    timeouts_ms = [timeout_ms for tags, timeout_ms in server.firewall.armings if tag in tags]
    assert timeouts_ms[-1] >= TagKind.KNOCK.ends_ms(window) + SKEW_MS - stepped.wall_ms
    datagram = alice.knock(stepped.wall_ms, 0, "web")
    assert verdict(alice, server.gate_admits(datagram, stepped), datagram) == "granted"
