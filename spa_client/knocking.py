"""The knock: ask a perimeter to open services, and say what came of it.

Every family that reaches the server is knocked, for a connection may take either. It must not know of files or
terminals: what it learns is returned, or kept through the SlotBook and SignedSources it is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address

from spa_client.addresses import no_network, places, resolve, udp_ports
from spa_client.errors import BadSurroundings, BadUsage, ClockWrong, CodeNeeded, NoAnswer, Refused
from spa_client.exchange import Next, Reply, ask, port_answered, wall_ms
from spa_client.meant import service_hint
from spa_client.memory import Memory
from spa_client.pace import Pace
from spa_client.perimeter import LOCAL, SEEN, KnownService, Perimeter
from spa_client.posture.collecting import INTERVAL_S
from spa_client.refused import refused, skew_sentence
from spa_client.second_factor import CodeSource, checked, no_code
from spa_client.signing.signers import unlock
from spa_protocol.answer import Answer, AnsweredService
from spa_protocol.body import Address
from spa_protocol.keys import Channel, ChannelKeys, derive
from spa_protocol.knock import MAX_SERVICES, Knock, seal_knock
from spa_protocol.names import is_service_name
from spa_protocol.posture import Posture
from spa_protocol.refusal import Refusal
from spa_protocol.seal import NONCE_SIZE
from spa_protocol.tag import CLOCK_SLOTS, TagKind

MAX_LEASE_S = 0xFFFFFFFF
DEFAULT_TIMEOUT_S = 3.0
SKEW_WARNED_MS = 20_000
"""A clock more wrong than this still opens, by most servers' rules, and is warned of."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of a perimeter.

    `services`: names, none for all that are allowed. `lease_s`: 0 for each service's own default. `source`: SEEN, LOCAL
    or an address; None for the perimeter's setting. `timeout_s`: how long to wait for the answer. `sparing`: use one
    slot for each family, whatever gets lost. `facts_s`: how old the device's facts may be that are told. `code`: asked
    for a one-time code when the server wants one.
    """

    services: tuple[str, ...] = ()
    lease_s: int = 0
    source: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    sparing: bool = False
    facts_s: int = INTERVAL_S
    code: CodeSource = field(default=no_code, repr=False, compare=False)

    def check(self, known: tuple[KnownService, ...] = ()) -> None:
        """Raise BadUsage for what no server could grant. `known`: services that may have been meant."""
        for name in self.services:
            if not is_service_name(name):
                hint = f"; {service_hint(name, known)}" if known else ""
                rule = "small letters, digits and '-', at most 24 characters"
                raise BadUsage(f"{name!r} cannot be a service: {rule}{hint}")
        if len(set(self.services)) != len(self.services) or len(self.services) > MAX_SERVICES:
            raise BadUsage(f"name each service once, and at most {MAX_SERVICES}")
        if not 0 <= self.lease_s <= MAX_LEASE_S:
            raise BadUsage("the seconds of a lease are a positive number")
        if not 0 < self.timeout_s <= 3600:
            raise BadUsage("the seconds to wait are between 0 and 3600")


@dataclass(frozen=True, slots=True)
class Opening:
    """What one family opened: on the server's address, for a source address."""

    server: Address
    source: Address
    named: bool
    services: tuple[AnsweredService, ...]


@dataclass(frozen=True, slots=True)
class OpenService:
    """A service that is open. `left_s`: seconds left, the fewest of the families. A port is 0 where there is none."""

    name: str
    left_s: int
    tcp_port: int
    udp_port: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a knock opened.

    `addresses`: the server's, where it is open. `confirmed`: whether the server said so; otherwise a port was seen to
    open. `warnings`: sentences for the user. `slots`: how many knocks a minute the server takes, if it said so.
    `unanswered`: what may be open besides, by families whose answer had not come when another's had.
    """

    perimeter: str
    services: tuple[OpenService, ...]
    addresses: tuple[Address, ...]
    openings: tuple[Opening, ...]
    warnings: tuple[str, ...] = ()
    confirmed: bool = True
    slots: int | None = None
    unanswered: tuple[Opening, ...] = ()

    @property
    def left_s(self) -> int:
        """Seconds until the first of the leases ends; 0 where nobody said."""
        return min((service.left_s for service in self.services), default=0)

    @property
    def tcp_port(self) -> int:
        """The TCP port of the first service that has one, or 0."""
        return next((service.tcp_port for service in self.services if service.tcp_port), 0)

    def known_services(self) -> tuple[KnownService, ...]:
        """What the server told about the services."""
        told = {service.name: service for opening in self.openings for service in opening.services}
        return tuple(map(KnownService.told, told.values()))


def channel_of(perimeter: Perimeter) -> ChannelKeys:
    """The keys under which knocks at the perimeter are sealed."""
    return derive(perimeter.gate_secret, Channel.DEVICE if perimeter.certificate is None else Channel.DELEGATE)


def knock_perimeter(
    perimeter: Perimeter,
    request: Request,
    memory: Memory,
    *,
    clock: Callable[[], int] = wall_ms,
) -> Opened:
    """Knock and wait for the answer.

    Raises BadUsage, Refused, NoAnswer (at once, where the perimeter is known not to answer) and BadSurroundings.
    """
    request.check(perimeter.services)
    unlock(perimeter.signer)
    knocker = Knocker(perimeter, request, memory)
    ports = memory.port.first(perimeter.knock_ports)
    targets = resolve(perimeter.hosts, *ports)
    fixed = knocker.fixed_source
    if fixed is not None:
        targets = tuple(target for target in targets if target.address.version == fixed.version)
        if not targets:
            raise BadUsage(f"the server has no IPv{fixed.version} address, so it cannot open for {fixed}")
    pace = (
        Pace.within(request.timeout_s, len(targets), memory.round_trip.seconds())
        if perimeter.answers
        else Pace.unanswered()
    )
    if perimeter.certificate is not None:
        # There are no clock tags for delegates.
        pace = replace(pace, clock_s=None)
    pace = pace.sparing() if request.sparing else pace.signed_by(perimeter.signer)
    try:
        replies = ask(targets, knocker, pace, clock)
        wants_code = _wants_code(replies)
        if wants_code is not None and perimeter.certificate is not None:
            raise _no_code_of_a_delegate(perimeter, wants_code)
        if wants_code is not None and (code := request.code()):
            knocker.code = checked(code)
            knocker.look()  # somebody may have taken a while to type it
            replies = _with_code(replies, wants_code, knocker, pace, clock)
    except OSError as error:
        raise BadSurroundings(no_network(targets, error)) from None
    memory.port.write(port_answered(replies, ports[0]), perimeter.knock_port)
    return _outcome(perimeter, request, replies, knocker, clock())


def _wants_code(replies: tuple[Reply, ...]) -> Reply | None:
    """The family whose answer asks for a code, where nothing was granted."""
    answers = [(reply, reply.answer) for reply in replies if reply.answer is not None]
    if any(answer.refusal is None for _, answer in answers):
        return None
    return next((reply for reply, answer in answers if answer.refusal is Refusal.STEP_UP_NEEDED), None)


def _no_code_of_a_delegate(perimeter: Perimeter, reply: Reply) -> Refused:
    error = _refused(perimeter, reply)
    reason = (
        f"{perimeter.name} refused: a second factor is needed, and a delegate has none: let the device itself knock"
    )
    return CodeNeeded(reason, error.refusal, error.about, error.slots)


def _with_code(
    before: tuple[Reply, ...], asking: Reply, knocker: Knocker, pace: Pace, clock: Callable[[], int]
) -> tuple[Reply, ...]:
    """What comes of giving the code, which counts once: in one knock by the family that was asked for it.

    The server remembers that this device gave it, so the other families then knock without. Where no answer comes it
    may have been heard all the same, and that family knocks without it too.
    """
    (given,) = ask((asking.target,), knocker, pace.sparing(), clock)
    knocker.code = ""
    if given.answer is not None and given.answer.refusal is not None:
        return (given,)
    heard = given.answer is not None
    others = tuple(reply.target for reply in before if not (heard and reply.target == asking.target))
    later = {reply.target: reply for reply in (ask(others, knocker, pace, clock) if others else ())}
    return tuple(later.get(reply.target, given if reply.target == asking.target else reply) for reply in before)


@dataclass(slots=True)
class Knocker:
    """Makes the knocks of one request, and weighs the answers. `named`: the source named last, by local address.

    `code`: what the next knock gives, and no other.
    """

    perimeter: Perimeter
    request: Request
    memory: Memory
    named: dict[Address, Address | None] = field(default_factory=dict)
    fixed_source: Address | None = None
    code: str = field(default="", repr=False)
    keys: ChannelKeys = field(init=False)
    posture: Posture | None = field(init=False)
    _source: str = field(init=False)
    _clock_slot: int = field(init=False)

    def __post_init__(self) -> None:
        self.keys = channel_of(self.perimeter)
        self._source = self.perimeter.source if self.request.source is None else self.request.source
        self._clock_slot = os.urandom(1)[0] % CLOCK_SLOTS
        self.look()
        if self._source not in (SEEN, LOCAL):
            self.fixed_source = _named_source(self._source)

    def look(self) -> None:
        """Find what to tell of the device's health, before anything is timed or sent, for it may take a moment."""
        # A delegate cannot speak for the device.
        told = self.perimeter.certificate is None
        self.posture = self.memory.health.posture(self.perimeter.posture, self.request.facts_s) if told else None

    @property
    def server_identity(self) -> bytes:
        return self.perimeter.server_identity

    def question(self, local: Address, kind: TagKind, now_ms: int) -> bytes:
        if kind is TagKind.CLOCK:
            # A day has few clock tags, so each family takes another.
            self._clock_slot = slot = (self._clock_slot + 1) % CLOCK_SLOTS
        else:
            slot = self.memory.slots.claim(now_ms)
        if local not in self.named:
            self.named[local] = self._first_source(local)
        code, self.code = self.code, ""
        return seal_knock(
            Knock(
                now_ms,
                self.request.services,
                self.request.lease_s,
                self.named[local],
                certificate=self.perimeter.certificate,
                posture=self.posture,
                code=code,
            ),
            keys=self.keys,
            signer=self.perimeter.signer,
            server_identity=self.perimeter.server_identity,
            slot=slot,
            nonce=os.urandom(NONCE_SIZE),
            kind=kind,
        )

    def _first_source(self, local: Address) -> Address | None:
        if self.fixed_source is not None:
            return self.fixed_source
        if self._source == LOCAL:
            return local
        needed = any(service.needs_signed_source for service in self.perimeter.known(self.request.services))
        return local if needed and local in self.memory.signed.read() else None

    def weigh(self, local: Address, answer: Answer) -> Next:
        if answer.refusal is Refusal.CLOCK_ONLY:
            return Next.KEEP_ASKING
        if answer.refusal is Refusal.ALREADY_USED:
            return Next.ASK_AGAIN
        if answer.refusal is Refusal.SOURCE_NOT_SIGNED and self.named[local] is None and answer.seen == local:
            # Only this computer's own address is ever signed unasked. An address that the server merely saw may be
            # that of somebody on the way, who would then be let in by our signature.
            self.named[local] = local
            self.memory.signed.add(local)
            return Next.ASK_AGAIN
        return Next.DONE


def _named_source(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise BadUsage(f"{text!r} is not a source: give 'seen', 'local' or an IP address") from None
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise BadUsage(f"{text!r} is not a source: an address has no zone, and an IPv4 address is written as one")
    return address


def _outcome(
    perimeter: Perimeter, request: Request, replies: tuple[Reply, ...], knocker: Knocker, now_ms: int
) -> Opened:
    memory = knocker.memory
    memory.round_trip.write(max(reply.took_s for reply in replies))
    memory.checkpoint.note(reply.answer for reply in replies if reply.answer is not None)
    granted = [reply for reply in replies if reply.answer is not None and reply.answer.refusal is None]
    if granted:
        memory.clock.clear()
        return _opened(perimeter, replies, knocker)
    turned_down = [reply for reply in replies if reply.answer is not None]
    if turned_down:
        # A wrong clock and the like say more than "knock again".
        turned_down.sort(key=lambda reply: reply.answer is not None and reply.answer.refusal is Refusal.CLOCK_ONLY)
        error = _refused(perimeter, turned_down[0])
        if isinstance(error, ClockWrong):
            memory.clock.write(error.skew_ms, now_ms)
        raise error
    silence = _silence(perimeter, request, replies)
    if (skew_ms := memory.clock.skew_ms(now_ms)) is not None:
        silence = f"{silence}; or this computer's clock still is {skew_sentence(skew_ms)}"
    raise NoAnswer(silence, tuple(reply.target.address for reply in replies))


def _opened(perimeter: Perimeter, replies: tuple[Reply, ...], knocker: Knocker) -> Opened:
    openings: list[Opening] = []
    warnings: list[str] = []
    slots: int | None = None
    skew_ms = 0
    for reply in replies:
        answer = reply.answer
        if answer is None:
            why = f"could not be knocked ({reply.fault})" if reply.fault else "has not answered yet"
            warnings.append(f"{reply.target.address} {why}; connect to the other address")
            continue
        slots = answer.slots
        skew_ms = max(skew_ms, reply.asked_ms - answer.time_ms, key=abs)
        if answer.refusal is not None:
            warnings.append(f"{reply.target.address} did not open: {_refused(perimeter, reply).sentence}")
            continue
        named = knocker.named.get(reply.local)
        if named is not None and answer.seen != named:
            warnings.append(
                f"{reply.target.address} opened for {named}, but saw the knock come from {answer.seen}: behind"
                " address translation (NAT) connections come from there too; if that address is yours, use"
                f" --source {answer.seen}"
            )
        openings.append(Opening(reply.target.address, named or answer.seen, named is not None, answer.services))
    if abs(skew_ms) > SKEW_WARNED_MS:
        warnings.append(f"this computer's clock is {skew_sentence(skew_ms)} before the server refuses its knocks")
    if warning := knocker.memory.checkpoint.warn():
        warnings.append(warning)
    return Opened(
        perimeter.name,
        _merged(openings),
        tuple(opening.server for opening in openings),
        tuple(openings),
        tuple(warnings),
        slots=slots,
        unanswered=tuple(_perhaps_open(replies, knocker, openings)),
    )


def _perhaps_open(replies: tuple[Reply, ...], knocker: Knocker, openings: list[Opening]) -> Iterator[Opening]:
    """What those knocks were for that were sent and not answered; the source is what this side knows of it."""
    for reply in replies:
        if reply.answer is None and not reply.fault:
            named = knocker.named.get(reply.local)
            yield Opening(reply.target.address, named or reply.local, named is not None, openings[0].services)


def _merged(openings: list[Opening]) -> tuple[OpenService, ...]:
    merged: dict[str, OpenService] = {}
    for opening in openings:
        for service in opening.services:
            before = merged.get(service.name)
            left_s = min(before.left_s, service.left_s) if before else service.left_s
            addresses = (*(before.addresses if before else ()), opening.server)
            merged[service.name] = OpenService(service.name, left_s, service.tcp_port, service.udp_port, addresses)
    return tuple(merged.values())


def _refused(perimeter: Perimeter, reply: Reply) -> Refused:
    if reply.answer is None or reply.answer.refusal is None:
        raise AssertionError("only a refusal is explained")
    return refused(perimeter.name, reply.answer, reply.answer.refusal, reply.asked_ms, reply.local, perimeter.services)


def _silence(perimeter: Perimeter, request: Request, replies: tuple[Reply, ...]) -> str:
    tried = places([reply.target for reply in replies])
    ports = udp_ports(perimeter.knock_ports)
    faults = {reply.fault for reply in replies}
    if "" not in faults:
        return f"this computer could not send to {tried} {ports}: {', '.join(sorted(faults))}; look at its own firewall"
    if not perimeter.answers:
        return f"knocked at {tried}; {perimeter.name} does not answer knocks: use --wait to see a TCP port open"
    # A question about the clock would need a touch of its own.
    unasked = "" if perimeter.signer.every_time else "; or this computer's clock is wrong, which was not asked"
    return (
        f"no answer from {tried} {ports} within {request.timeout_s:g} s: the server is down, UDP is blocked on the way,"
        f" or it does not know this device any more (here: spa-client doctor {perimeter.name}; on the server:"
        f" spa-server why {perimeter.label}){unasked}"
    )
