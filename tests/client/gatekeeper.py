"""A server for the client's tests, on real loopback sockets, made of `spa_protocol` alone.

It arms tags as a server's kernel does (each is admitted once, and counted in `repeated` when it comes again), keeps one
registry of devices and one of invites in memory, and answers. What it should do wrong is set on it: keep silent,
refuse, forge, answer twice, send garbage.
It opens nothing.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import TracebackType

from spa_protocol.answer import Answer, AnsweredService, Checkpoint, seal_answer
from spa_protocol.body import Address, MessageType, body_head
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import Channel, ChannelKeys, agreed_gate_secret, derive, exchange_public, public_key
from spa_protocol.knock import Action, Knock
from spa_protocol.limits import MIN_SLOTS
from spa_protocol.refusal import Refusal
from spa_protocol.seal import HEAD_SIZE, Domain, unseal
from spa_protocol.signature import VerifyingKey
from spa_protocol.tag import CLOCK_SKEW_MS, CLOCK_SLOTS, TagKind, TagPosition, compute_tag

SKEW_MS = 60_000
WEB = AnsweredService("web", 30, 8443, 0, False)


@dataclass(slots=True)
class KnownInvite:
    """An invite handed out: its secrets, and the key that used it."""

    invite: Invite
    exchange_secret: bytes
    used_by: bytes = b""


@dataclass(slots=True)
class KnownDevice:
    """An enrolled device."""

    key: VerifyingKey
    gate_secret: bytes

    @property
    def public(self) -> bytes:
        """The Ed25519 public key."""
        return self.key.public


@dataclass(slots=True)
class Seen:
    """A request that was verified."""

    message: Knock | Enrolment
    kind: TagKind
    source: Address
    at_s: float


@dataclass(slots=True)
class Behaviour:
    """What the server does, which a test may change at any time.

    `silent`: verify, and say nothing. `drop_first`: how many datagrams of each family to lose. `clock_ms`: how far its
    clock is from this computer's. `refuse`: a refusal for every knock. `about`: what it concerns. `needs_signed`:
    refuse what names no source. `seen`: the source address to claim. `copies`: how often an answer is sent. `delay_s`:
    before each answer, by family. `distort`: what is sent in place of the answer; its arguments are the answer and the
    request. `identity_seed`: who signs the answers. `garbage`: random datagrams before each answer.
    `lose_answers`: how many answers to lose on the way. `slots`: how many knocks a minute it takes, and says so.
    `blocked`: knock ports that no datagram reaches. `one_way`: those from which no answer comes back. `codes`: those
    that it takes, each once, before it opens; whoever gave one need not give another. `requests`: what waits for
    somebody to approve it, or to deny it; the first has to be approved before anything opens. `checkpoint`: of its
    audit trail.
    """

    silent: bool = False
    drop_first: int = 0
    clock_ms: int = 0
    refuse: Refusal | None = None
    about: str = ""
    needs_signed: bool = False
    seen: Address | None = None
    copies: int = 1
    delay_s: dict[int, float] = field(default_factory=dict)
    distort: Callable[[bytes, bytes], list[bytes]] | None = None
    identity_seed: bytes | None = None
    garbage: int = 0
    services: tuple[AnsweredService, ...] = (WEB,)
    lose_answers: int = 0
    slots: int = MIN_SLOTS
    blocked: frozenset[int] = frozenset()
    one_way: frozenset[int] = frozenset()
    codes: list[str] | None = None
    requests: list[int] = field(default_factory=list)
    checkpoint: Checkpoint | None = None


class Gatekeeper:
    """The server; `with Gatekeeper() as server` runs it on 127.0.0.1 and ::1, on one port or so many.

    `tried`: all datagrams in order, each with its port, also those that were blocked.
    """

    def __init__(self, families: tuple[int, ...] = (4, 6), ports: int = 1) -> None:
        self.seed = secrets.token_bytes(32)
        self.behaviour = Behaviour()
        self.requests: list[Seen] = []
        self.received: list[bytes] = []
        self.tried: list[tuple[int, bytes]] = []
        self.not_admitted = 0
        self.repeated = 0
        self.badly_signed = 0
        self.invites: list[KnownInvite] = []
        self.devices: list[KnownDevice] = []
        self.stepped_up: set[bytes] = set()
        self._spent: set[bytes] = set()
        self._lost: dict[int, int] = {4: 0, 6: 0}
        self._families = families
        self._sockets = [_bind(families) for _ in range(ports)]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def identity(self) -> bytes:
        """The public key."""
        return public_key(self.seed)

    @property
    def ports(self) -> tuple[int, ...]:
        """Its knock ports, the usual one first."""
        return tuple(next(iter(listening.values())).getsockname()[1] for listening in self._sockets)

    @property
    def port(self) -> int:
        """The usual knock port."""
        return self.ports[0]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where it listens."""
        return tuple("127.0.0.1" if family == 4 else "::1" for family in self._families)

    def knocks(self, kind: TagKind = TagKind.KNOCK) -> list[Seen]:
        """The knocks to open seen under that kind of tag."""
        return self._knocks(Action.OPEN, kind)

    def closes(self) -> list[Seen]:
        """The knocks to close seen."""
        return self._knocks(Action.CLOSE, TagKind.KNOCK)

    def decisions(self) -> list[Knock]:
        """The knocks to approve or deny seen."""
        messages = (seen.message for seen in self.requests)
        return [each for each in messages if isinstance(each, Knock) and each.request]

    def _knocks(self, action: Action, kind: TagKind) -> list[Seen]:
        return [
            seen
            for seen in self.requests
            if isinstance(seen.message, Knock) and seen.message.action is action and seen.kind is kind
        ]

    def invite(self, expires_in_s: int = 3600, hosts: tuple[str, ...] | None = None) -> Invite:
        """A new invite."""
        exchange_secret = secrets.token_bytes(32)
        invite = Invite(
            secret=secrets.token_bytes(32),
            server_identity=self.identity,
            exchange=exchange_public(exchange_secret),
            expires_s=int(time.time()) + expires_in_s,
            knock_ports=self.ports,
            hosts=hosts or self.hosts,
        )
        self.invites.append(KnownInvite(invite, exchange_secret))
        return invite

    def __enter__(self) -> Gatekeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join(60)
        self._woken.close()
        for port in self._sockets:
            for listening in port.values():
                listening.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for port in self._sockets:
                for family, listening in port.items():
                    selector.register(listening, selectors.EVENT_READ, (family, listening))
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    self._receive(*key.data)

    def _receive(self, family: int, listening: socket.socket) -> None:
        datagram, sender = listening.recvfrom(2048)
        self.received.append(datagram)
        port = listening.getsockname()[1]
        self.tried.append((port, datagram))
        if port in self.behaviour.blocked:
            return
        if self._lost[family] < self.behaviour.drop_first:
            self._lost[family] += 1
            return
        answer = self._handle(datagram, ip_address(sender[0]), sender[1])
        if answer is None or self.behaviour.silent or port in self.behaviour.one_way:
            return
        if self.behaviour.lose_answers:
            self.behaviour.lose_answers -= 1
            return
        time.sleep(self.behaviour.delay_s.get(family, 0))
        for _ in range(self.behaviour.garbage):
            listening.sendto(secrets.token_bytes(512), sender)
        sent = self.behaviour.distort(answer, datagram) if self.behaviour.distort else [answer]
        for each in sent * self.behaviour.copies:
            listening.sendto(each, sender)

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.behaviour.clock_ms

    def _handle(self, datagram: bytes, source: Address, port: int) -> bytes | None:
        tag = datagram[:8]
        if tag in self._spent:
            self.repeated += 1
            return None
        for device in self.devices:
            keys = derive(device.gate_secret, Channel.DEVICE)
            if (kind := self._armed(tag, keys)) is not None:
                return self._knock(datagram, keys, device, kind, source, port)
        for known in self.invites:
            keys = derive(known.invite.secret, Channel.INVITE)
            if (kind := self._armed(tag, keys)) is not None:
                return self._enrol(datagram, keys, known, kind, source, port)
        self.not_admitted += 1
        return None

    def _armed(self, tag: bytes, keys: ChannelKeys) -> TagKind | None:
        knocks = self.behaviour.slots
        for kind, skew_ms, slots in ((TagKind.KNOCK, SKEW_MS, knocks), (TagKind.CLOCK, CLOCK_SKEW_MS, CLOCK_SLOTS)):
            for window in kind.covering(self._now_ms(), skew_ms):
                for slot in range(slots):
                    if compute_tag(keys, TagPosition(kind, window, slot)) == tag:
                        self._spent.add(tag)
                        return kind
        return None

    def _knock(
        self, datagram: bytes, keys: ChannelKeys, device: KnownDevice, kind: TagKind, source: Address, port: int
    ) -> bytes | None:
        opened = unseal(datagram, keys.request_seal)
        assert opened is not None
        if not opened.is_signed_by(device.key, Domain.KNOCK, self.identity):
            self.badly_signed += 1
            return None
        assert body_head(opened.body)[1] == MessageType.KNOCK.value
        knock = Knock.parse(opened.message)
        self.requests.append(Seen(knock, kind, source, time.monotonic()))
        behaviour = self.behaviour
        refusal = self._clock_refusal(knock.time_ms, kind) or behaviour.refuse
        about = behaviour.about
        if refusal is None and knock.action is not Action.CLOSE and (refusal := self._second_factor(knock, device)):
            about = "risk 40"
        if refusal is None and knock.request:
            return self._answer(datagram, keys, *self._decide(knock), (), source, port)
        if refusal is None and knock.action is Action.OPEN and behaviour.requests:
            refusal, about = Refusal.APPROVAL_NEEDED, str(behaviour.requests[0])
        if refusal is None and behaviour.needs_signed and knock.source is None:
            refusal, about = Refusal.SOURCE_NOT_SIGNED, "web"
        services = [service for service in behaviour.services if not knock.services or service.name in knock.services]
        if refusal is None and len(services) < len(knock.services):
            refusal, about = Refusal.UNKNOWN_SERVICE, knock.services[0]
        return self._answer(datagram, keys, refusal, about, () if refusal else tuple(services), source, port)

    def _second_factor(self, knock: Knock, device: KnownDevice) -> Refusal | None:
        codes = self.behaviour.codes
        if codes is not None and knock.code:
            if knock.code not in codes:
                return Refusal.CODE_WRONG
            codes.remove(knock.code)
            self.stepped_up.add(device.public)
        return None if codes is None or device.public in self.stepped_up else Refusal.STEP_UP_NEEDED

    def _decide(self, knock: Knock) -> tuple[Refusal | None, str]:
        if knock.request not in self.behaviour.requests:
            return Refusal.NO_SUCH_REQUEST, str(knock.request)
        self.behaviour.requests.remove(knock.request)
        return None, f"web for bob: {knock.action.name.lower()}"

    def _enrol(
        self, datagram: bytes, keys: ChannelKeys, known: KnownInvite, kind: TagKind, source: Address, port: int
    ) -> bytes | None:
        opened = unseal(datagram, keys.request_seal)
        assert opened is not None
        enrolment = Enrolment.parse(opened.message)
        assert opened.is_signed_by(enrolment.key, Domain.ENROLMENT, self.identity)
        self.requests.append(Seen(enrolment, kind, source, time.monotonic()))
        refusal = self._clock_refusal(enrolment.time_ms, kind)
        if refusal is None and known.used_by not in (b"", enrolment.device_key):
            refusal = Refusal.INVITE_USED
        elif refusal is None and not known.used_by and known.invite.expires_s * 1000 < self._now_ms():
            refusal = Refusal.INVITE_EXPIRED
        elif refusal is None and not known.used_by:
            known.used_by = enrolment.device_key
            gate_secret = agreed_gate_secret(
                own_secret=known.exchange_secret,
                peer_public=enrolment.exchange,
                invite_secret=known.invite.secret,
                invite_exchange=known.invite.exchange,
                device_exchange=enrolment.exchange,
                device_key=enrolment.device_key,
            )
            assert gate_secret is not None
            self.devices.append(KnownDevice(enrolment.key, gate_secret))
        services = () if refusal else tuple(replace(each, left_s=0) for each in self.behaviour.services)
        return self._answer(datagram, keys, refusal, "alice-laptop", services, source, port)

    def _clock_refusal(self, time_ms: int, kind: TagKind) -> Refusal | None:
        skew_ms = time_ms - self._now_ms()
        if abs(skew_ms) > SKEW_MS:
            return Refusal.STALE if skew_ms < 0 else Refusal.EARLY
        return Refusal.CLOCK_ONLY if kind is TagKind.CLOCK else None

    def _answer(
        self,
        datagram: bytes,
        keys: ChannelKeys,
        refusal: Refusal | None,
        about: str,
        services: tuple[AnsweredService, ...],
        source: Address,
        port: int,
    ) -> bytes:
        behaviour = self.behaviour
        return seal_answer(
            Answer(
                refusal,
                self._now_ms(),
                behaviour.seen or source,
                port,
                behaviour.slots,
                about,
                services,
                behaviour.checkpoint,
            ),
            keys=keys,
            server_seed=behaviour.identity_seed or self.seed,
            server_identity=public_key(behaviour.identity_seed or self.seed),
            request_head=datagram[:HEAD_SIZE],
            nonce=secrets.token_bytes(24),
        )


def _bind(families: tuple[int, ...]) -> dict[int, socket.socket]:
    """One socket for each family, on one port that is free in all."""
    while True:
        sockets: dict[int, socket.socket] = {}
        port = 0
        try:
            for family in families:
                listening = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
                sockets[family] = listening
                listening.bind(("127.0.0.1" if family == 4 else "::1", port))
                port = listening.getsockname()[1]
        except OSError:
            for listening in sockets.values():
                listening.close()
        else:
            return sockets
