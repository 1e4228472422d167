"""One accepted datagram gives at most one grant, in any order of duplicates, delays, clock steps, restarts and faults.

A machine of hypothesis drives the listening half of a server on a real state file. The kernel's gate is left out on
purpose: every datagram is handed over as often as the machine likes, so what refuses the second is the record alone.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spa_protocol.answer import Answer
from spa_protocol.tag import TagKind
from spa_server.enforce.client import FirewallError
from spa_server.remember.registry import Registry, RegistryError
from spa_server.remember.store import StateError, open_store
from tests.server.listen.expected import Invited, Known, Sent
from tests.server.listen.power import ForcedCopy
from tests.server.listen.world import (
    PATH,
    PATH6,
    SERVICES,
    SKEW_MS,
    SLOTS,
    START,
    InviteText,
    Keyring,
    ListeningServer,
    damaged,
    later,
    secret,
)

HOUR_MS = 3_600_000
WINDOW_MS = TagKind.KNOCK.window_s * 1000
LABELS = ("alice-laptop", "bob-phone")
ROLES = {"alice-laptop": ("admin",), "bob-phone": ("admin", "keeper")}
labels = st.sampled_from(LABELS)
slots = st.integers(0, SLOTS - 1)
names = st.sampled_from([(), ("web",), ("web",), ("vault",), ("web", "vault"), ("nowhere",)])


class Perimeter(RuleBasedStateMachine):
    """Everything that can happen to a server; every delivery is judged against what the registry should hold."""

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.CRITICAL)
        self.folder = Path(tempfile.mkdtemp(prefix="spa-machine-"))
        self.forced = ForcedCopy(self.folder)
        self.forced.start()
        self.now = START
        self.server = ListeningServer(self.folder, self.now)
        self.boots = 1
        self.start_boot_ms: int | None = None
        self.faulty = self.read_only = False
        self.devices: dict[str, Known] = {}
        self.keyrings: list[Keyring] = []
        self.invites: list[Invited] = []
        self.post: list[Sent] = []

    def teardown(self) -> None:
        self.forced.close()
        logging.disable(logging.NOTSET)
        self.server.close()
        shutil.rmtree(self.folder)

    # The clock.

    @rule(ms=st.integers(0, 5 * WINDOW_MS) | st.integers(0, 3000))
    def time_passes(self, ms: int) -> None:
        self.now = later(self.now, ms)

    @rule(ms=st.integers(-6 * HOUR_MS, 6 * HOUR_MS) | st.sampled_from([-HOUR_MS, HOUR_MS, -WINDOW_MS, WINDOW_MS]))
    def clock_is_stepped(self, ms: int) -> None:
        self.now = later(self.now, ms, 0)

    @rule(reading=st.just(True))
    def server_keeps_house(self, reading: bool) -> None:
        """What it does before each reading of its sockets, and with `reading` once a minute."""
        with contextlib.suppress(FirewallError, StateError):
            self.server.membership.keep_time(self.now)
            self.server.membership.catch_up(self.now)
            if reading:
                self.server.membership.read_again(self.now)

    # The registry, edited as commands do: from another process, which then tells the server, or dies before it can.

    @contextlib.contextmanager
    def _command(self, told: bool) -> Iterator[Registry]:
        with open_store(self.folder) as store:
            yield Registry(store)
        if told:
            with contextlib.suppress(FirewallError, StateError):
                self.server.membership.catch_up(self.now)

    @initialize()
    def first_device(self) -> None:
        self.device_is_added("alice-laptop", "first", True)

    @rule(label=labels, key=st.sampled_from(["first", "second"]), told=st.booleans())
    def device_is_added(self, label: str, key: str, told: bool) -> None:
        keyring = Keyring(label, secret(f"seed {label} {key}"), secret(f"gate {label} {key}"))
        with contextlib.suppress(RegistryError), self._command(told) as registry:
            registry.add_device(label, "user", ROLES[label], keyring.public, keyring.gate_secret, self.now.wall_s)
            self.devices[label] = Known(keys={keyring.gate_secret: float("inf")})
        if keyring not in self.keyrings:
            self.keyrings.append(keyring)

    @rule(label=labels, enabled=st.booleans(), told=st.booleans())
    def device_is_disabled_or_enabled(self, label: str, enabled: bool, told: bool) -> None:
        with contextlib.suppress(RegistryError), self._command(told) as registry:
            registry.set_enabled(label, enabled)
            self.devices[label].enabled = enabled
        self._knock_now(label)

    @precondition(lambda self: self.devices)
    @rule(label=labels, told=st.booleans())
    def device_is_removed(self, label: str, told: bool) -> None:
        with contextlib.suppress(RegistryError), self._command(told) as registry:
            registry.remove(label)
            del self.devices[label]
        self._knock_now(label)

    @precondition(lambda self: len(self.invites) < 4)
    @rule(label=labels, minutes=st.integers(1, 20), overlap_s=st.sampled_from([0, 90]), told=st.booleans())
    def invite_is_made(self, label: str, minutes: int, overlap_s: int, told: bool) -> None:
        name = f"invite {len(self.invites)}"
        text, exchange_secret = InviteText.made_up(label, name)
        expires_s = self.now.wall_s + 60 * minutes
        with self._command(told) as registry:
            registry.add_invite(
                label, "user", ROLES[label], text.secret, exchange_secret, self.now.wall_s, expires_s, overlap_s
            )
        self.invites.append(Invited(text, expires_s, overlap_s))

    # The server's life.

    @rule()
    def server_restarts(self) -> None:
        self._set_faults("none")  # a server does not start while the kernel or the disk refuses
        self.server.restart(self.now)

    @precondition(lambda self: self.boots < 4)
    @rule(down_ms=st.integers(0, 2 * WINDOW_MS), power_cut=st.booleans())
    def machine_boots_again(self, down_ms: int, power_cut: bool) -> None:
        self._set_faults("none")  # a server does not start while the kernel or the disk refuses
        self.boots += 1
        self.now = type(self.now)(self.now.wall_ms + down_ms, 20_000 + self.boots)
        self.start_boot_ms = self.now.boot_ms
        self.server.close()
        if power_cut:
            self.forced.cut_power()
        self.server.start(self.now, f"boot-{self.boots}")

    # Faults.

    @rule(fault=st.sampled_from(["none", "none", "none", "opening", "arming", "read-only", "full"]))
    def something_fails_or_all_recovers(self, fault: str) -> None:
        self._set_faults(fault)

    def _set_faults(self, fault: str) -> None:
        """Real refusals of SQLite, and a firewall process that says no."""
        self.server.firewall.opening_fails, self.server.firewall.arming_fails = fault == "opening", fault == "arming"
        self.faulty, self.read_only = fault != "none", fault == "read-only"
        store = self.server.store
        store.rows(f"PRAGMA query_only={'ON' if self.read_only else 'OFF'}")
        pages = store.rows("PRAGMA page_count")[0][0]
        store.rows(f"PRAGMA max_page_count={pages if fault == 'full' else 1 << 30}")

    # Datagrams.

    @rule(
        data=st.data(),
        slot=slots,
        wanted=names,
        skew_ms=st.sampled_from([0, 0, 0, 0, -30_000, 30_000, 59_000, -70_000, HOUR_MS]),
        kind=st.sampled_from([TagKind.KNOCK] * 7 + [TagKind.CLOCK]),
    )
    def knock_is_sent(
        self, data: st.DataObject, slot: int, wanted: tuple[str, ...], skew_ms: int, kind: TagKind
    ) -> None:
        owner = data.draw(st.sampled_from(self.keyrings))
        time_ms = self.now.wall_ms + skew_ms
        datagram = owner.knock(time_ms, slot, *wanted, kind=kind)
        self._deliver(Sent(datagram, owner, kind.window(time_ms), slot, genuine=kind is TagKind.KNOCK))

    @rule(data=st.data(), slot=slots, damage=st.sampled_from(["signature", "seal"]))
    def forged_knock_is_sent(self, data: st.DataObject, slot: int, damage: str) -> None:
        """By somebody who holds the gate secret, or has only seen the tag."""
        owner = data.draw(st.sampled_from(self.keyrings))
        time_ms = self.now.wall_ms
        if damage == "signature":
            datagram = owner.knock(time_ms, slot, "web", seed=secret("a thief's key"))
        else:
            datagram = damaged(owner.knock(time_ms, slot, "web"))
        answer = self._deliver(Sent(datagram, owner, time_ms // WINDOW_MS, slot, genuine=False))
        assert answer is None, "an answer to what was not verified"

    @precondition(lambda self: self.invites)
    @rule(data=st.data(), slot=slots, device=st.sampled_from(["new-1", "new-2"]))
    def enrolment_is_sent(self, data: st.DataObject, slot: int, device: str) -> None:
        invited = data.draw(st.sampled_from(self.invites))
        datagram, becomes = invited.text.enrolment(self.now.wall_ms, slot, device)
        self._deliver(Sent(datagram, invited.text, self.now.wall_ms // WINDOW_MS, slot, becomes=becomes))

    @precondition(lambda self: self.post)
    @rule(data=st.data(), six=st.booleans(), housekept=st.booleans())
    def old_datagram_is_delivered(self, data: st.DataObject, six: bool, housekept: bool) -> None:
        self._deliver(data.draw(st.sampled_from(self.post)), six=six, housekept=housekept)

    @rule(label=labels)
    def device_knocks_with_nothing_in_the_way(self, label: str) -> None:
        self._set_faults("none")
        self._knock_now(label)

    def _knock_now(self, label: str) -> None:
        """With every key that the device ever had, a fresh knock. As long as nothing fails and no fence stands it opens
        exactly where it should: the machine cannot pass by refusing everything."""
        window = self.now.wall_ms // WINDOW_MS
        for owner in [keyring for keyring in self.keyrings if keyring.label == label]:
            tried = {sent.slot for sent in self.post if (sent.owner, sent.window) == (owner, window)}
            for slot in sorted(set(range(SLOTS)) - tried)[:1]:
                sent = Sent(owner.knock(self.now.wall_ms, slot, "web"), owner, window, slot)
                self._deliver(sent)
                if not self.faulty and self.boots == 1:
                    assert sent.grants == self._may_open(owner)

    def _may_open(self, owner: Keyring) -> bool:
        known = self.devices.get(owner.label)
        return known is not None and known.enabled and known.keys.get(owner.gate_secret, 0) > self.now.wall_s

    def _deliver(self, sent: Sent, *, six: bool = False, housekept: bool = True) -> Answer | None:
        if sent not in self.post:
            self.post.append(sent)
        if housekept:
            self.server_keeps_house(False)
        before = len(self.server.firewall.granted)
        reply = self.server.hear(sent.datagram, self.now, PATH6 if six else PATH)
        granted = self.server.firewall.granted[before:]
        answer = sent.owner.answer(reply, sent.datagram)
        if isinstance(sent.owner, InviteText):
            assert not granted, "an enrolment opened something"
            self._check_enrolment(sent, answer)
            return answer
        sent.grants += len(granted)
        outcome = "silence" if answer is None else answer.refusal.name if answer.refusal else "granted"
        event(outcome)
        assert sent.grants <= 1, "a second grant"
        assert bool(granted) == (outcome == "granted"), "what is told is not what was done"
        if granted:
            self._check_grant(sent, sent.owner)
            services = {item.service.name: item.service for item in granted[0][0].services}
            assert services.keys() <= {each.name for each in SERVICES}
            assert all(each.roles & set(ROLES[sent.owner.label]) for each in services.values())
        return answer

    def _check_grant(self, sent: Sent, owner: Keyring) -> None:
        assert sent.genuine, "what was not verified opened"
        assert not self.read_only, "opened without a record"
        assert not self.server.firewall.opening_fails
        assert self._may_open(owner), "opened to a device that is disabled, removed or has other keys by now"
        assert sent.window in TagKind.KNOCK.covering(self.now.wall_ms, SKEW_MS), "opened out of its time"
        if self.start_boot_ms is not None:
            started_ms = self.now.wall_ms - (self.now.boot_ms - self.start_boot_ms)
            assert sent.window * WINDOW_MS >= started_ms, "opened in a window that began before the start"

    def _check_enrolment(self, sent: Sent, answer: Answer | None) -> None:
        if answer is None or answer.refusal is not None:
            return
        invited = next(each for each in self.invites if each.text == sent.owner)
        becomes = sent.becomes
        assert becomes is not None
        assert invited.used_by in (None, becomes.seed), "an invite was honoured for two keys"
        if invited.used_by is None:
            assert self.now.wall_s < invited.expires_s, "an expired invite was honoured"
            assert not self.read_only, "enrolled without a record"
            invited.used_by = becomes.seed
            known = self.devices.setdefault(becomes.label, Known())
            known.take_over(becomes.gate_secret, self.now.wall_s + invited.overlap_s if invited.overlap_s else None)
            self.keyrings.append(becomes)

    @invariant()
    def no_datagram_was_granted_twice(self) -> None:
        assert all(sent.grants <= 1 for sent in self.post)


TestAtMostOnce = Perimeter.TestCase
TestAtMostOnce.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
