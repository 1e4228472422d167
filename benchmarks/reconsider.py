"""How long it takes to judge everybody inside again, and to cut off whom the answer is no for.

Every session has a lease in the kernel and a live TCP connection through it, from its own address. They are judged
by the real policy, and cut off by the firewall process's own code, in another thread, over its socket pair.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.costs import WEB, in_context
from benchmarks.figures import Series
from benchmarks.report import Section, table
from spa_protocol.keys import Channel
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Refused
from spa_server.decide.policy import Policy
from spa_server.decide.vocabulary import DEFAULT_POLICY, Action
from spa_server.digest import perimeter_digest
from spa_server.enforce import perimeter
from spa_server.enforce.firewall import Enforced, Firewall
from spa_server.enforce.leases import Grant, list_leases, open_leases
from spa_server.enforce.requests import MESSAGE_LARGEST, Status
from spa_server.enforce.table import TableSocket
from spa_server.listen.clock import system_clock
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.gate import HolderId
from spa_server.listen.live import LiveSessions
from spa_server.listen.session import Live
from spa_server.remember.sessions import SessionKey, SessionRecord
from spa_server.remember.store import open_store
from tests.lab import Host, Lab

NETWORK, FIRST = "10.77.0.0/16", IPv4Address("10.77.0.1")
KNOCK_PORT = 62201
PORT = WEB.tcp[0].first
LEASE_S = 300
FILES = 16_384


@dataclass(frozen=True, slots=True)
class _Taken:
    """By the wall clock, and of both threads' processor time, which a busy machine does not lengthen."""

    wall_ms: float
    processor_ms: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks/reconsider", description="Judge everybody inside again.")
    parser.add_argument("--sessions", type=int, default=1000, help="how many are inside (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    with Lab(clients=("alice",)) as lab:
        print("\n".join(table(measure(lab, options.sessions, options.rounds).series)))
    return 0


def measure(lab: Lab, count: int, rounds: int) -> Section:
    """One series for judging when nobody has to go, one for judging when all have to."""
    client = lab.clients["alice"]
    client.run(["ip", "route", "add", "local", NETWORK, "dev", "lo"])
    lab.server.run(["ip", "route", "add", NETWORK, "via", str(client.ipv4)])
    with lab.server.enter():
        perimeter.apply((KNOCK_PORT,), (WEB,))
    policy = Policy(DEFAULT_POLICY, (WEB,))
    stay: list[_Taken] = []
    go: list[_Taken] = []
    for _ in range(rounds):
        with _inside(lab.server, client, count) as live:
            stay.append(_timed(live, policy, frozenset({"admin"}), 0))
            go.append(_timed(live, policy, frozenset(), count))
    series = [
        *_series(f"{count} judged, all may stay", stay),
        *_series(f"{count} judged and cut off, connections included", go),
    ]
    return Section(f"{count} live sessions judged again", series)


def _series(title: str, taken: Sequence[_Taken]) -> Iterator[Series]:
    yield Series(title, "ms", tuple(each.wall_ms for each in taken))
    yield Series(f"{title}: processor time", "ms", tuple(each.processor_ms for each in taken))


def _timed(live: LiveSessions, policy: Policy, roles: frozenset[str], expected: int) -> _Taken:
    now = system_clock()

    def judge(each: Live) -> Refused | None:
        context = replace(each.context_at(now), roles=roles)
        allowed = policy.judge(context, each.service, Action.RENEW).is_allowed
        return None if allowed else Refused(Refusal.SERVICE_NOT_ALLOWED, each.service)

    begun_ns, worked_ns = time.perf_counter_ns(), time.process_time_ns()
    cut = live.reconsider(judge, now)
    taken = _Taken((time.perf_counter_ns() - begun_ns) / 1e6, (time.process_time_ns() - worked_ns) / 1e6)
    if cut != expected:
        raise AssertionError(f"{cut} of {expected} were cut off")
    return taken


@contextlib.contextmanager
def _inside(server: Host, client: Host, count: int) -> Iterator[LiveSessions]:
    """So many sessions, each with a lease and a connection; all must be gone at the end."""
    with server.enter():
        nft = TableSocket("spa")
    sources = [FIRST + number for number in range(count)]
    open_leases(nft, [Grant(WEB, each, server.ipv4, LEASE_S, f"laptop-{int(each)}") for each in sources])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=_serve, args=(theirs, server, nft), daemon=True)
    thread.start()
    link = FirewallLink(ours, (KNOCK_PORT,), (WEB,), alive=lambda: None)
    with (
        tempfile.TemporaryDirectory(prefix="spa-bench-") as folder,
        open_store(Path(folder), create=True) as store,
        _connected(server, client, sources) as connections,
    ):
        live = LiveSessions(SessionRecord(store, "boot"), link)
        now = system_clock()
        for source in sources:
            live.granting([_live(source, server.ipv4, now.wall_ms, now.boot_ms)])
            live.granted([LEASE_S], now)
        yield live
        live.keep_house()
        for each in connections:
            _must_be_reset(each)
        if list_leases(nft) or len(live):
            raise AssertionError("somebody is still inside")
    link.lose()
    thread.join(timeout=5)
    theirs.close()


def _live(source: IPv4Address, destination: IPv4Address, wall_ms: int, boot_ms: int) -> Live:
    now = replace(system_clock(), wall_ms=wall_ms, boot_ms=boot_ms)
    return Live(
        SessionKey(f"laptop-{int(source)}", source, destination, WEB.name),
        session=f"{int(source):016x}",
        knock=f"{int(source):016x}",
        holder=HolderId(Channel.DEVICE, int(source)),
        seen=source,
        is_signed=False,
        context=in_context(source),
        certificate=None,
        at=now,
        began_ms=boot_ms,
        ends_ms=boot_ms + LEASE_S * 1000,
        outlives=False,
    )


@contextlib.contextmanager
def _connected(server: Host, client: Host, sources: Sequence[IPv4Address]) -> Iterator[list[socket.socket]]:
    """The clients' ends of a connection from each of the addresses."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(server.listen_tcp(PORT))
        near: list[socket.socket] = []
        for source in sources:
            one = stack.enter_context(client.new_socket(socket.AF_INET, socket.SOCK_STREAM))
            one.bind((str(source), 0))
            one.settimeout(5)
            one.connect((str(server.ipv4), PORT))
            far, _ = listener.accept()
            stack.enter_context(far)
            near.append(one)
        yield near


def _must_be_reset(connection: socket.socket) -> None:
    try:
        connection.recv(1)
    except ConnectionResetError:
        return
    raise AssertionError("a connection lives on")


def _serve(channel: socket.socket, server: Host, nft: TableSocket) -> None:
    enforced = Enforced(perimeter_digest((KNOCK_PORT,), (WEB,)), (WEB,))
    with server.enter(), contextlib.suppress(ConnectionError):
        firewall = Firewall(nft, enforced, lambda _: Status.STALE, lambda: None)
        while data := channel.recv(MESSAGE_LARGEST):
            channel.send(firewall.answer(data).pack())


if __name__ == "__main__":
    sys.exit(main())
