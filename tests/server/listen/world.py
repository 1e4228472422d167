"""A server's listening half without sockets or a kernel: real registry, real record of used slots, real seals.

What stands in for the firewall process records what it is asked and fails when told to. Time is an argument everywhere,
so the clock is just two numbers. Secrets come from their names, so that a failing run can be repeated bit by bit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path as FilePath

from spa_protocol.answer import Answer, open_answer
from spa_protocol.enrolment import Enrolment, seal_enrolment
from spa_protocol.keys import Channel, ChannelKeys, agreed_gate_secret, derive, exchange_public, public_key
from spa_protocol.knock import Knock, seal_knock
from spa_protocol.limits import DELEGATE_SLOTS
from spa_protocol.seal import HEAD_SIZE
from spa_protocol.signature import SeedSigner
from spa_protocol.tag import TagKind
from spa_server.approval_table import ApprovalSettings
from spa_server.decide.decision import Closing, Grant, Path
from spa_server.decide.policy import Policy
from spa_server.decide.vocabulary import DEFAULT_POLICY
from spa_server.enforce.client import FirewallFailed, FirewallRefused, Revoked, Standing
from spa_server.enforce.firewall import LONGEST_TAG_TIMEOUT_MS
from spa_server.listen.account import Account
from spa_server.listen.approvals import Approvals
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant
from spa_server.listen.gate import Gate, Slots, UsedInWindow
from spa_server.listen.knocks import GrantFailed, KnockHandler, Rules
from spa_server.listen.live import LiveSessions
from spa_server.listen.membership import Membership
from spa_server.listen.risk_watch import RiskWatch
from spa_server.listen.second_look import SecondLook
from spa_server.listen.trust import Trust
from spa_server.remember.baseline import Baselines
from spa_server.remember.delegations import Delegations
from spa_server.remember.fence import enter_boot, mark_new
from spa_server.remember.identity import ServerIdentity
from spa_server.remember.refusals import RefusalRing
from spa_server.remember.registry import Registry
from spa_server.remember.requests import Requests
from spa_server.remember.sessions import SessionKey, SessionRecord
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import UsedSlots
from spa_server.remember.users import Users
from spa_server.remember.witness import Witness
from spa_server.risk_table import RiskSettings
from spa_server.service import PortRange, Service
from spa_server.tell.audit import NotWritten
from spa_server.tell.events import Event
from spa_server.traffic import Traffic

SKEW_MS = 60_000
SLOTS = 4
"""Armed for each device and window: few, so that tests meet the end of them."""
TOLD_SLOTS = 48
"""What the answers say, which no answer can say of so few."""
START = Instant(1_767_225_600_000 + 123_456, 500_000)
PATH = Path(ip_address("192.0.2.7"), ip_address("198.51.100.1"))
PATH6 = Path(ip_address("2001:db8::7"), ip_address("2001:db8:1::1"))
WEB = Service("web", (PortRange(8443, 8443),), (), frozenset({"admin"}))
VAULT = Service("vault", (PortRange(9443, 9443),), (), frozenset({"keeper"}))
SERVICES = (WEB, VAULT)
POLICY = Policy(DEFAULT_POLICY, SERVICES)


def secret(name: str) -> bytes:
    """32 bytes that only their name decides."""
    return hashlib.blake2b(f"spa tests: {name}".encode(), digest_size=32).digest()


def damaged(datagram: bytes) -> bytes:
    """The same with one bit of its last byte changed."""
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


def nonce(*what: object) -> bytes:
    """24 bytes that only what they are for decides: the same request made twice is the same datagram."""
    return hashlib.blake2b(repr(what).encode(), digest_size=24).digest()


RULES = Rules(SERVICES, SKEW_MS, Slots(TOLD_SLOTS, DELEGATE_SLOTS), replies=True, max_delegation_s=86_400)
IDENTITY = ServerIdentity(secret("server"), public_key(secret("server")))


def later(now: Instant, wall_ms: int = 0, boot_ms: int | None = None) -> Instant:
    """So much later by both clocks, or by the wall clock alone where `boot_ms` is 0."""
    return Instant(now.wall_ms + wall_ms, now.boot_ms + (wall_ms if boot_ms is None else boot_ms))


@dataclass(slots=True)
class RecordingFirewall:
    """Stands where the firewall process would: keeps what is armed, as its kernel would, and what was granted."""

    armed: set[bytes] = field(default_factory=set)
    armings: list[tuple[frozenset[bytes], int]] = field(default_factory=list)
    granted: list[tuple[Grant, str]] = field(default_factory=list)
    closed: list[tuple[Closing, str]] = field(default_factory=list)
    revoked: list[SessionKey] = field(default_factory=list)
    left: dict[SessionKey, Standing] = field(default_factory=dict)
    """What it says is left of what was granted; of what is not here, nothing."""
    revoking_fails: bool = False
    arming_fails: bool = False
    opening_fails: bool = False

    def arm(self, tags: Collection[bytes], timeout_ms: int) -> None:
        if not 0 < timeout_ms <= LONGEST_TAG_TIMEOUT_MS:
            raise FirewallRefused(f"the firewall process would refuse {timeout_ms} ms")
        if self.arming_fails:
            raise FirewallFailed("arming fails in this test")
        self.armings.append((frozenset(tags), timeout_ms))
        self.armed.update(tags)

    def disarm(self, tags: Collection[bytes]) -> None:
        if self.arming_fails:
            raise FirewallFailed("disarming fails in this test")
        self.armed.difference_update(tags)

    def open_leases(self, grant: Grant, label: str) -> tuple[int, ...]:
        if self.opening_fails:
            raise GrantFailed("opening fails in this test")
        self.granted.append((grant, label))
        return tuple(item.lease_s for item in grant.services)

    def close_leases(self, closing: Closing, label: str) -> tuple[Service, ...]:
        if self.opening_fails:
            raise GrantFailed("closing fails in this test")
        self.closed.append((closing, label))
        opened = {item.service for grant, whose in self.granted if whose == label for item in grant.services}
        return tuple(service for service in closing.services if service in opened)

    def revoke_leases(self, held: Sequence[SessionKey]) -> Revoked:
        if self.revoking_fails:
            raise FirewallFailed("revoking fails in this test")
        self.revoked += held
        return Revoked(tuple(1 for _ in held), len(held))

    def alive(self) -> None:
        """Nobody waits here."""

    def look(self, held: Sequence[SessionKey], *, final: bool) -> tuple[Standing, ...]:
        if self.revoking_fails:
            raise FirewallFailed("looking fails in this test")
        return tuple(self.left.get(key, Standing(0, 0, Traffic(1, 60, 1, 60))) for key in held)


@dataclass(slots=True)
class FirstRecords:
    """Stands where the audit trail would: keeps what was recorded before it was done."""

    events: list[Event] = field(default_factory=list)
    is_full: bool = False
    is_told: bool = False
    """Whether it says how far it has come, as the real one does."""

    def record_first(self, event: Event) -> None:
        if self.is_full:
            raise NotWritten("the disk is full in this test")
        self.events.append(event)

    def newest(self) -> tuple[int, bytes] | None:
        return (len(self.events), bytes([len(self.events)]) * 32) if self.is_told and self.events else None


@dataclass(frozen=True, slots=True)
class Keyring:
    """One device's own keys."""

    label: str
    seed: bytes
    gate_secret: bytes

    @property
    def public(self) -> bytes:
        return public_key(self.seed)

    @property
    def channel(self) -> ChannelKeys:
        return derive(self.gate_secret, Channel.DEVICE)

    def knock(
        self,
        time_ms: int,
        slot: int = 0,
        *names: str,
        lease_s: int = 0,
        kind: TagKind = TagKind.KNOCK,
        seed: bytes | None = None,
    ) -> bytes:
        """A knock of that time; `seed` signs with another key."""
        knock = Knock(time_ms, names, lease_s)
        return seal_knock(
            knock,
            keys=self.channel,
            signer=SeedSigner(seed or self.seed),
            server_identity=IDENTITY.public,
            slot=slot,
            nonce=nonce(self.label, seed, knock, slot, kind),
            kind=kind,
        )

    def answer(self, reply: bytes | None, request: bytes) -> Answer | None:
        return _answer(reply, request, self.channel)


@dataclass(frozen=True, slots=True)
class InviteText:
    """What whoever got an invite holds."""

    label: str
    secret: bytes
    exchange: bytes

    @classmethod
    def made_up(cls, label: str, name: str) -> tuple[InviteText, bytes]:
        """One that only its name decides, and the server's own half of the exchange."""
        own = secret(f"exchange {label} {name}")
        return cls(label, secret(f"{label} {name}"), exchange_public(own)), own

    @property
    def channel(self) -> ChannelKeys:
        return derive(self.secret, Channel.INVITE)

    def enrolment(self, time_ms: int, slot: int, device: str) -> tuple[bytes, Keyring]:
        """The datagram that enrols the device of that name, and the keys it has if that succeeds."""
        seed, own = secret(f"seed {device}"), secret(f"exchange {device}")
        made = Enrolment(time_ms, public_key(seed), exchange_public(own), "some-computer")
        datagram = seal_enrolment(
            made,
            keys=self.channel,
            signer=SeedSigner(seed),
            server_identity=IDENTITY.public,
            slot=slot,
            nonce=nonce(made, slot),
        )
        gate_secret = agreed_gate_secret(
            own_secret=own,
            peer_public=self.exchange,
            invite_secret=self.secret,
            invite_exchange=self.exchange,
            device_exchange=exchange_public(own),
            device_key=public_key(seed),
        )
        assert gate_secret is not None
        return datagram, Keyring(self.label, seed, gate_secret)

    def answer(self, reply: bytes | None, request: bytes) -> Answer | None:
        return _answer(reply, request, self.channel)


def _answer(reply: bytes | None, request: bytes, keys: ChannelKeys) -> Answer | None:
    if reply is None:
        return None
    opened = open_answer(reply, keys=keys, server_identity=IDENTITY.public, request_head=request[:HEAD_SIZE])
    assert opened is not None, "what came back is no answer to that request"
    return opened


class ListeningServer:
    """All between a datagram and its answer, over a state folder; `restart` makes all of it anew, as a new process."""

    def __init__(
        self, folder: FilePath, now: Instant, *, gate_knows_used: bool = False, delegate_slots: int = 0
    ) -> None:
        """`gate_knows_used`: whether slots used before a start stay shut at the gate, as they do in the server; without
        it the record alone must refuse them.
        """
        self.folder = folder
        self._witness = folder / "newest-use"
        self.boot_id = "boot-1"
        self.records = FirstRecords()
        self.firewall = RecordingFirewall()
        self._gate_knows_used = gate_knows_used
        self._slots = Slots(SLOTS, delegate_slots)
        new = not (folder / "state.sqlite3").exists()
        self.store: Store = open_store(folder, create=True, busy_ms=10)
        if new:
            mark_new(self.store)
        self._build(now)

    def _build(self, now: Instant) -> None:
        self.registry = Registry(self.store)
        self.witness = witness = Witness.open(self._witness)
        fenced_at = enter_boot(self.store, witness, self.boot_id, now.boot_ms)
        self.used = used = UsedSlots(self.store, witness)
        self.delegations = Delegations(self.store)
        self.users = Users(self.store)
        self.risk = RiskWatch(Baselines(self.store), RiskSettings())
        used_at_gate: UsedInWindow = used.of_window if self._gate_knows_used else lambda window: ()
        self.ring = RefusalRing(self.store)
        self.account = Account(self.ring, self.records)
        self.membership = Membership(
            self.registry,
            self.delegations,
            self.users,
            Gate(self.firewall, slots=self._slots, max_skew_ms=SKEW_MS, used=used_at_gate),
            delegates=self._slots.delegates > 0,
            fenced_at_boot_ms=fenced_at,
            floor_window=used.first_window(),
            max_skew_ms=SKEW_MS,
            now=now,
        )
        trust = Trust(POLICY, self.users, self.risk, Approvals(Requests(self.store), ApprovalSettings()))
        self.second_look = SecondLook(self.membership, trust, lambda: RULES)
        self.live = LiveSessions(SessionRecord(self.store, self.boot_id), self.firewall, self.second_look.may_change)
        self.handler = KnockHandler(
            membership=self.membership,
            rules=RULES,
            identity=IDENTITY,
            used=used,
            sources=SourcesOfDevices(self.store),
            delegations=self.delegations,
            account=self.account,
            trust=trust,
            live=self.live,
            leases=self.firewall,
            random_bytes=os.urandom,
        )

    def restart(self, now: Instant, boot_id: str | None = None) -> None:
        """The process ends and starts; another `boot_id` makes it the first start of another boot."""
        self.close()
        self.start(now, boot_id)

    def close(self) -> None:
        """The process ends."""
        self.store.close()
        self.witness.close()

    def start(self, now: Instant, boot_id: str | None = None) -> None:
        """Open the state again, whatever has become of it meanwhile."""
        self.boot_id = boot_id or self.boot_id
        if boot_id is not None:
            self.firewall.armed.clear()
            self._witness.unlink(missing_ok=True)
        self.store = open_store(self.folder, busy_ms=10)
        self._build(now)

    def forget_witness(self) -> None:
        """As the end of a boot does."""
        self._witness.unlink()

    @staticmethod
    @contextmanager
    def new_state(folder: FilePath) -> Iterator[Registry]:
        """A state on which no server has run yet."""
        folder.mkdir(mode=0o700)
        with open_store(folder, create=True) as store:
            mark_new(store)
            yield Registry(store)

    def add(self, label: str, roles: tuple[str, ...] = ("admin",), now: Instant = START, key: str = "") -> Keyring:
        """A device put into the registry."""
        made = Keyring(label, secret(f"seed {label} {key}"), secret(f"gate {label} {key}"))
        self.registry.add_device(label, "user", roles, public_key(made.seed), made.gate_secret, now.wall_s)
        self.membership.catch_up(now)
        return made

    def invite(
        self,
        label: str,
        now: Instant,
        expires_in_s: int = 600,
        overlap_s: int = 0,
        roles: tuple[str, ...] = ("admin",),
        key: str = "",
    ) -> InviteText:
        """A new invite."""
        made, own = InviteText.made_up(label, f"invite {key}")
        expires_s = now.wall_s + expires_in_s
        self.registry.add_invite(label, "user", roles, made.secret, own, now.wall_s, expires_s, overlap_s)
        self.membership.catch_up(now)
        return made

    def hear(self, datagram: bytes, now: Instant, path: Path = PATH) -> bytes | None:
        """One datagram that passed the kernel's gate."""
        return self.handler.handle(Arrival(datagram, path, 40_000, now))

    def gate_admits(self, datagram: bytes, now: Instant, path: Path = PATH) -> bytes | None:
        """One datagram as the kernel would treat it: its tag passes once, others never."""
        if datagram[:8] not in self.firewall.armed:
            return None
        self.firewall.armed.discard(datagram[:8])
        return self.hear(datagram, now, path)
