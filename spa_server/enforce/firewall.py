"""The firewall process: it serves a short list of requests and refuses what its configuration does not allow.

It holds CAP_NET_ADMIN and reads nothing from the network; its peer, which does, is not trusted. What it can be talked
into is what `_checked` lets through: a lease on configured services, to one unicast source, for at most the
configured seconds; and tags armed for at most three days.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Sequence

from spa_protocol.names import is_label
from spa_server.enforce.leases import Grant, NotReachable, destinations, open_leases
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nftset import NftSocket
from spa_server.enforce.requests import (
    MESSAGE_LARGEST,
    Answer,
    Arm,
    Disarm,
    Malformed,
    Open,
    Request,
    Status,
    Wanted,
    sequence_of,
    unpack_request,
)
from spa_server.enforce.tags import arm, disarm, disarm_all
from spa_server.service import Service, is_unicast

LONGEST_TAG_TIMEOUT_MS = 3 * 86_400_000 + 60_000
"""Day-long windows, a day of clock skew on either side, and something for being armed a little early."""

_log = logging.getLogger(__name__)


class NotAllowed(Exception):
    """A request that this process's configuration does not allow; the message says what was wrong."""


def serve(channel: socket.socket, services: Sequence[Service], nft: NftSocket | None = None) -> None:
    """Answer requests from `channel` until the peer closes it.

    A request that cannot be done is answered and logged; it never ends the process. `services` are in the order in
    which requests number them.
    """
    nft = nft or NftSocket()
    try:
        while data := _received(channel):
            channel.send(_answer(data, services, nft).pack())
    except (BrokenPipeError, ConnectionResetError):
        _log.info("the network process has ended")
    finally:
        # A tag left alive would let a datagram through to a port where nobody listens: that draws an ICMP error.
        with contextlib.suppress(KernelError):
            disarm_all(nft)
        nft.close()


def _received(channel: socket.socket) -> bytes:
    channel.setblocking(True)
    return channel.recv(MESSAGE_LARGEST)


def _answer(data: bytes, services: Sequence[Service], nft: NftSocket) -> Answer:
    sequence = sequence_of(data)
    try:
        return Answer(sequence, Status.DONE, _done(unpack_request(data), services, nft))
    except (Malformed, NotAllowed, NotReachable) as error:
        _log.warning("refused a request of the network process: %s", error)
        return Answer(sequence, Status.REFUSED)
    except KernelError as error:
        _log.error("the kernel did not do what was asked: %s", error.strerror)
        return Answer(sequence, Status.FAILED)
    except Exception:
        _log.exception("a request of the network process failed")
        return Answer(sequence, Status.FAILED)


def _done(request: Request, services: Sequence[Service], nft: NftSocket) -> tuple[int, ...]:
    match request:
        case Arm():
            if not 0 < request.timeout_ms <= LONGEST_TAG_TIMEOUT_MS:
                raise NotAllowed(f"tags for {request.timeout_ms} ms")
            arm(nft, request.tags, request.timeout_ms)
            return ()
        case Disarm():
            disarm(nft, request.tags)
            return ()
        case Open():
            return open_leases(nft, _checked(request, services))


def _checked(request: Open, services: Sequence[Service]) -> tuple[Grant, ...]:
    """The grants that a request asks for; NotAllowed or NotReachable if any is not to be had."""
    if time.monotonic() * 1000 > request.not_after_ms:
        raise NotAllowed("a request from too long ago")
    if not is_label(request.label):
        raise NotAllowed(f"a label with other characters: {request.label!r}")
    for address in (request.source, request.destination):
        if not is_unicast(address):
            raise NotAllowed(f"{address} is not one host's address")
    if not request.wanted:
        raise NotAllowed("no service")
    if len({wanted.service for wanted in request.wanted}) != len(request.wanted):
        raise NotAllowed("a service asked for twice")
    return tuple(_grant(request, wanted, services) for wanted in request.wanted)


def _grant(request: Open, wanted: Wanted, services: Sequence[Service]) -> Grant:
    if wanted.service >= len(services):
        raise NotAllowed(f"service {wanted.service} of {len(services)}")
    service = services[wanted.service]
    if not 0 < wanted.seconds <= service.max_lease_s:
        raise NotAllowed(f"{wanted.seconds} s of service {service.name}, which allows {service.max_lease_s}")
    destinations(service, request.source, request.destination)
    return Grant(service, request.source, request.destination, wanted.seconds, request.label)
