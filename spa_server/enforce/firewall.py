"""The firewall process: it serves a short list of requests and refuses what its configuration does not allow.

It holds CAP_NET_ADMIN and reads nothing from the network; its peer, which does, is not trusted. What it can be talked
into is what `_checked` lets through: a lease on configured services, to one unicast source, for at most the
configured seconds; and tags armed for at most three days.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from spa_server.enforce.accounts import Account, Accounts, is_counting
from spa_server.enforce.claims import Claims
from spa_server.enforce.held import Held
from spa_server.enforce.leases import (
    AskedTooLongAgo,
    Grant,
    NotReachable,
    destinations,
    give_back,
    left_ms,
    list_leases,
    open_leases,
    take_away,
    targets_of,
)
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.requests import (
    Answer,
    Arm,
    Close,
    Counters,
    Disarm,
    Look,
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
from spa_server.enforce.ruleset import GATE_COUNTERS, service_counters
from spa_server.enforce.table import TableSocket
from spa_server.enforce.tags import arm, disarm
from spa_server.lease_label import is_lease_label
from spa_server.seldom import Seldom
from spa_server.service import Service, is_unicast
from spa_server.traffic import Traffic

LONGEST_TAG_TIMEOUT_MS = 3 * 86_400_000 + 60_000
"""Day-long windows, a day of clock skew on either side, and something for being armed a little early."""

_log = logging.getLogger(__name__)


class NotAllowed(Exception):
    """A request that this process's configuration does not allow; the message says what was wrong."""


class Stale(Exception):
    """A request by another configuration than this process's; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Enforced:
    """What the perimeter is put up for."""

    digest: bytes
    services: tuple[Service, ...]
    """In the order in which requests of this digest number them."""
    names_by_digest: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)
    """How other configurations, known to be good, number services: while one is tried out, or after it was taken back,
    the network process may ask by it. What is opened is this configuration's service of that name, or nothing."""


class Firewall:
    """Answers requests; a request that cannot be done is answered and logged, and never ends the process.

    `nft` and `enforced` are set anew whenever the perimeter is put up anew. `reload` is told the digest that the
    network process goes by, and answers how it ended; `opened` is called after every lease that was opened.
    """

    def __init__(
        self, nft: TableSocket, enforced: Enforced, reload: Callable[[bytes], Status], opened: Callable[[], None]
    ) -> None:
        self.nft = nft
        self.enforced = enforced
        self.claims = Claims()
        self.accounts = Accounts()
        self._reload = reload
        self._opened = opened
        self._amiss = Seldom(_log)

    def answer(self, data: bytes) -> Answer:
        """The answer to one message of the network process."""
        sequence = sequence_of(data)
        try:
            return self._done(unpack_request(data))
        except (Malformed, NotAllowed, NotReachable, AskedTooLongAgo) as error:
            self._amiss.warn(f"refused a request of the network process: {error}")
            return Answer(sequence, Status.REFUSED)
        except Stale as error:
            self._amiss.warn(str(error))
            return Answer(sequence, Status.STALE)
        except KernelError as error:
            self._amiss.error(f"the kernel did not do what was asked: {error.strerror}")
            return Answer(sequence, Status.FAILED)
        except Exception:
            _log.exception("a request of the network process failed")
            return Answer(sequence, Status.FAILED)

    def _done(self, request: Request) -> Answer:
        status = Status.DONE
        numbers: tuple[int, ...] = ()
        match request:
            case Arm():
                if not 0 < request.timeout_ms <= LONGEST_TAG_TIMEOUT_MS:
                    raise NotAllowed(f"tags for {request.timeout_ms} ms")
                arm(self.nft, request.tags, request.timeout_ms)
            case Disarm():
                disarm(self.nft, request.tags)
            case Open():
                grants = _checked(request, _numbered(self.enforced, request))
                numbers = open_leases(self.nft, grants, request.not_after_ms, self.claims)
                self.accounts.watch(request.source)
                self._opened()
            case Close():
                numbers = give_back(self.nft, _to_close(request, _numbered(self.enforced, request)), self.claims)
            case Reload():
                status = self._reload(request.digest)
            case Counters():
                numbers = _counted(self.nft, self.enforced.services)
            case Revoke():
                numbers = self._revoke(request)
            case Look():
                numbers = self._look(request)
        return Answer(request.sequence, status, numbers)

    def _revoke(self, request: Revoke) -> tuple[int, ...]:
        grants = self._held(request)
        counts, flows = take_away(self.nft, tuple(grants.values()), self.claims)
        taken = dict(zip(grants, counts, strict=True))
        return (*(taken.get(number, 0) for number in range(len(request.held))), flows)

    def _look(self, request: Look) -> tuple[int, ...]:
        grants = self._held(request)
        targets = {number: targets_of(grant) for number, grant in grants.items()}
        accounts = self.accounts.of({each for some in targets.values() for each in some}, final=request.final)
        numbers = [int(is_counting())]
        for number in range(len(request.held)):
            grant, found = grants.get(number), [accounts[each] for each in targets.get(number, ())]
            numbers += [left_ms(self.nft, grant, self.claims) if grant else 0, *_summed(found)]
        return tuple(numbers)

    def _held(self, request: Revoke | Look) -> dict[int, Grant]:
        """What is held, by its place in the request, as far as the services that it is of are enforced."""
        services = _numbered(self.enforced, request)
        return {number: grant for number, each in enumerate(request.held) if (grant := _held(each, services))}


def _summed(accounts: Sequence[Account]) -> tuple[int, ...]:
    traffic = sum((account.traffic for account in accounts), Traffic())
    counted = (traffic.packets_in, traffic.octets_in, traffic.packets_out, traffic.octets_out)
    return (sum(account.flows for account in accounts), *(max(0, number) for number in counted))


def _numbered(enforced: Enforced, request: Open | Close | Revoke | Look) -> Sequence[Service | None]:
    """The services as the request numbers them; None for those that are not enforced."""
    if request.digest == enforced.digest:
        return enforced.services
    names = enforced.names_by_digest.get(request.digest)
    if names is None:
        raise Stale("the network process works from another configuration: spa-server reload")
    known = {service.name: service for service in enforced.services}
    return [known.get(name) for name in names]


def _counted(nft: TableSocket, services: Sequence[Service]) -> tuple[int, ...]:
    counted = nft.counters()
    inside = Counter(
        service for service, _, _ in {(each.service, each.label, each.source) for each in list_leases(nft)}
    )
    gate = [counted.get(name, (0, 0))[0] for name in GATE_COUNTERS]
    for service in services:
        gate += [counted.get(name, (0, 0))[0] for name in service_counters(service)]
        gate.append(inside[service.name])
    return tuple(gate)


def _checked(request: Open, services: Sequence[Service | None]) -> tuple[Grant, ...]:
    """The grants that a request asks for; NotAllowed or NotReachable if any is not to be had."""
    _check_ends(request, tuple(wanted.service for wanted in request.wanted))
    return tuple(_grant(request, wanted, services) for wanted in request.wanted)


def _to_close(request: Close, services: Sequence[Service | None]) -> tuple[Grant, ...]:
    """What a request gives back, as the grants it came by; NotAllowed or NotReachable if any could not have been."""
    _check_ends(request, request.services)
    found = (_service(number, services) for number in request.services)
    return tuple(Grant(service, request.source, request.destination, 0, request.label) for service in found)


def _held(held: Held, services: Sequence[Service | None]) -> Grant | None:
    """What is held, as the grant it came by; None where no such grant can be: one must not keep the others open."""
    service = services[held.service] if held.service < len(services) else None
    if service is None:
        return None
    try:
        destinations(service, held.source, held.destination)
    except NotReachable:
        return None
    return Grant(service, held.source, held.destination, 0, held.label)


def _check_ends(request: Open | Close, numbers: tuple[int, ...]) -> None:
    if time.monotonic() * 1000 > request.not_after_ms:
        raise NotAllowed("a request from too long ago")
    if not is_lease_label(request.label):
        raise NotAllowed(f"a label with other characters: {request.label!r}")
    for address in (request.source, request.destination):
        if not is_unicast(address):
            raise NotAllowed(f"{address} is not one host's address")
    if not numbers:
        raise NotAllowed("no service")
    if len(set(numbers)) != len(numbers):
        raise NotAllowed("a service asked for twice")


def _service(number: int, services: Sequence[Service | None]) -> Service:
    if number >= len(services):
        raise NotAllowed(f"service {number} of {len(services)}")
    service = services[number]
    if service is None:
        raise Stale(f"service {number} of the network process's configuration is not enforced: spa-server reload")
    return service


def _grant(request: Open, wanted: Wanted, services: Sequence[Service | None]) -> Grant:
    service = _service(wanted.service, services)
    if not 0 < wanted.seconds <= service.max_lease_s:
        raise NotAllowed(f"{wanted.seconds} s of service {service.name}, which allows {service.max_lease_s}")
    destinations(service, request.source, request.destination)
    return Grant(service, request.source, request.destination, wanted.seconds, request.label)
