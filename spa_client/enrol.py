"""Joining a perimeter: an invite in, a perimeter that this device can knock at out (docs/protocol.md, section 6).

It must not know of terminals.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address

from spa_client import joining
from spa_client.addresses import no_network, resolve, udp_ports
from spa_client.errors import BadSurroundings, BadUsage, NoAnswer, Refused
from spa_client.exchange import Next, Reply, ask, port_answered, wall_ms
from spa_client.joining import Joining
from spa_client.knocking import DEFAULT_TIMEOUT_S
from spa_client.pace import Pace
from spa_client.perimeter import NAME_RULE, KnownService, Perimeter, is_perimeter_name
from spa_client.refused import refused
from spa_client.signing.place import OWN_FILE, KeyPlace
from spa_client.signing.signers import unlock
from spa_client.slots import SlotBook
from spa_client.storage import Store
from spa_protocol.answer import Answer
from spa_protocol.body import Address
from spa_protocol.enrolment import Enrolment, seal_enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import (
    Channel,
    ChannelKeys,
    agreed_gate_secret,
    derive,
    exchange_public,
)
from spa_protocol.names import is_label
from spa_protocol.refusal import Refusal
from spa_protocol.seal import NONCE_SIZE
from spa_protocol.signature import Signer
from spa_protocol.tag import CLOCK_SLOTS, TagKind
from spa_protocol.text import BadText


def join(
    invite_text: str,
    *,
    store: Store,
    place: KeyPlace = OWN_FILE,
    name: str | None = None,
    replace_old: bool = False,
    answers: bool = True,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    clock: Callable[[], int] = wall_ms,
) -> Perimeter:
    """Enrol this device, and store the perimeter.

    `place`: where the device's key is, or of which kind one is to be made. `replace_old`: take the name of a perimeter
    joined before, once the server has granted. `answers`: False where the server is known not to answer; the perimeter
    is then stored without its word. Safe to call again with the same invite after any failure. Raises BadUsage,
    Refused, NoAnswer, NotPermitted, BadSurroundings, what is wrong with the key's place, and OSError.
    """
    try:
        invite = Invite.parse(invite_text)
    except BadText as error:
        raise BadUsage(f"the invite cannot be used: {error}") from None
    name = free_name(store, invite.hosts[0], name, replace_old)
    begun = joining.begin(store, invite, place)
    now_ms = clock()
    if now_ms > invite.expires_s * 1000 and not begun.resumed:
        begun.abandon()
        raise Refused(_expired(invite, now_ms), Refusal.INVITE_EXPIRED)
    # The gate secret needs no word of the server's, so a bad invite is found out before anything is sent.
    perimeter = _perimeter(name, invite, begun, answers)
    unlock(begun.signer)
    enroller = _Enroller(invite, begun.signer, begun.exchange_secret, begun.slots, perimeter.label)
    targets = resolve(invite.hosts, *invite.knock_ports)
    pace = Pace.within(timeout_s, len(targets))
    pace = pace.signed_by(begun.signer)
    try:
        replies = ask(targets, enroller, pace, clock)
    except OSError as error:
        raise BadSurroundings(no_network(targets, error)) from None
    granted = _granted(replies, begun, invite, answers, now_ms)
    if granted is not None:
        label = granted.about if is_label(granted.about) else perimeter.label
        services = tuple(map(KnownService.told, granted.services))
        perimeter = replace(perimeter, label=label, services=services, slots=granted.slots, answers=True)
    store.adopt(begun.folder, perimeter)
    replace(begun, folder=store.path(name)).settle()
    usual = perimeter.knock_port
    store.memory(name).port.write(port_answered(replies, usual), usual)
    return perimeter


def free_name(store: Store, host: str, name: str | None, replace_old: bool) -> str:
    """The name that a perimeter at that host gets; raises BadUsage where it cannot be, or is taken."""
    name = default_name(host) if name is None else name
    if not is_perimeter_name(name):
        raise BadUsage(f"{name!r} cannot name a perimeter: {NAME_RULE}")
    if name in store.names() and not replace_old:
        raise BadUsage(f"a perimeter named {name} is joined already: choose another with --name, or give --replace")
    return name


def default_name(host: str) -> str:
    """A perimeter's name from its server's: the first label of a host name, or the address with dashes."""
    try:
        return re.sub(r"[.:]+", "-", str(ip_address(host))).strip("-")
    except ValueError:
        return re.sub(r"[^a-z0-9_-]", "", host.split(".")[0].lower()).lstrip("_-") or "perimeter"


def own_label() -> str:
    """What this computer calls itself, in the characters of a label."""
    label = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:63]
    return label if is_label(label) else "device"


def _expired(invite: Invite, now_ms: int) -> str:
    try:
        when = datetime.fromtimestamp(invite.expires_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        when = "a time that never was"
    now = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"the invite expired at {when}, and this computer's clock says {now}: ask for a new one (spa-server invite)"


def _perimeter(name: str, invite: Invite, begun: Joining, answers: bool) -> Perimeter:
    gate_secret = agreed_gate_secret(
        own_secret=begun.exchange_secret,
        peer_public=invite.exchange,
        invite_secret=invite.secret,
        invite_exchange=invite.exchange,
        device_exchange=exchange_public(begun.exchange_secret),
        device_key=begun.signer.key.public,
    )
    if gate_secret is None:
        begun.abandon()
        raise BadUsage("the invite cannot be used: its exchange value is degenerate; ask for a new one")
    return Perimeter(
        name=name,
        hosts=invite.hosts,
        knock_ports=invite.knock_ports,
        server_identity=invite.server_identity,
        label=own_label(),
        signer=begun.signer,
        gate_secret=gate_secret,
        answers=answers,
        place=begun.place,
    )


@dataclass(slots=True)
class _Enroller:
    """Makes the enrolments of one join: the same keys each time, under a new tag, nonce and time."""

    invite: Invite
    signer: Signer = field(repr=False)
    exchange_secret: bytes = field(repr=False)
    slots: SlotBook
    label: str
    keys: ChannelKeys = field(init=False)
    _clock_slot: int = 0

    def __post_init__(self) -> None:
        self.keys = derive(self.invite.secret, Channel.INVITE)

    @property
    def server_identity(self) -> bytes:
        return self.invite.server_identity

    def question(self, local: Address, kind: TagKind, now_ms: int) -> bytes:
        if kind is TagKind.CLOCK:
            self._clock_slot = slot = (self._clock_slot + 1) % CLOCK_SLOTS
        else:
            slot = self.slots.claim(now_ms)
        key = self.signer.key
        return seal_enrolment(
            Enrolment(now_ms, key.public, exchange_public(self.exchange_secret), self.label, key.application),
            keys=self.keys,
            signer=self.signer,
            server_identity=self.invite.server_identity,
            slot=slot,
            nonce=os.urandom(NONCE_SIZE),
            kind=kind,
        )

    def weigh(self, local: Address, answer: Answer) -> Next:
        if answer.refusal is Refusal.CLOCK_ONLY:
            return Next.KEEP_ASKING
        return Next.ASK_AGAIN if answer.refusal is Refusal.ALREADY_USED else Next.DONE


def _granted(replies: tuple[Reply, ...], begun: Joining, invite: Invite, answers: bool, now_ms: int) -> Answer | None:
    """The answer that grants, or None where none was hoped for and none came."""
    for reply in replies:
        if reply.answer is not None and reply.answer.refusal is None:
            return reply.answer
    for reply in replies:
        if reply.answer is not None and reply.answer.refusal is not None:
            # An earlier try may have enrolled this key before the invite expired; only INVITE_USED says it did not.
            expired = reply.answer.refusal is Refusal.INVITE_EXPIRED and not begun.resumed
            if expired or reply.answer.refusal is Refusal.INVITE_USED:
                begun.abandon()
            raise refused("the server", reply.answer, reply.answer.refusal, reply.asked_ms, reply.local)
    if answers and now_ms > invite.expires_s * 1000:
        # Only a join begun before comes here; after the invite's time a server may well be silent.
        raise Refused(_expired(invite, now_ms), Refusal.INVITE_EXPIRED)
    if answers:
        places = " and ".join(str(reply.target.address) for reply in replies)
        raise NoAnswer(
            f"no answer from {places} {udp_ports(invite.knock_ports)}: the invite is used up or gone, the server is"
            " down, or UDP is blocked; run the same join again, and with --no-answer if the server never answers",
            tuple(reply.target.address for reply in replies),
        )
    return None
