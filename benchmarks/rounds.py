"""The rounds: in each, every contender is measured once, in a random order, after a random pause.

The pause keeps a daemon that looks at its packets ten times a second from being met always at the same moment.
"""

from __future__ import annotations

import itertools
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from benchmarks.contenders import Contender, Ours
from benchmarks.figures import Series
from benchmarks.opening import Opening, time_opening
from demo.wire import udp_socket
from tests.end_to_end.running import KNOCK_PORT, SCRIPTS
from tests.lab import Address, Host, LabError

SPACING_S = 0.0002
"""Between two SYNs, besides what sending takes; the report says what gaps came of it."""
PATIENCE_S = 2.0
WARM_UP = 3
PAUSE_S = 0.15
COMMAND_PATIENCE_S = 10.0

NETWORKS = ("203.0.113.0/24", "2001:db8:2::/64")
"""Sources of the knocks, all routed to the client: a new one for each round, so that none has a lease yet."""

Rounds = dict[str, list[Opening | None]]


def route_sources(client: Host, servers: Sequence[Host]) -> None:
    """Let the client use every address of the networks, and the servers find their way back."""
    for network in NETWORKS:
        client.run(["ip", "route", "add", "local", network, "dev", "lo"])
        for server in servers:
            via = client.address(6 if ":" in network else 4)
            server.run(["ip", "route", "add", network, "via", str(via)])


def sources(family: int) -> Iterator[Address]:
    """One after the other; IPv4's come round again after 200, when leases are long over."""
    numbers = itertools.cycle(range(20, 220))
    if family == 4:
        return (IPv4Address("203.0.113.0") + number for number in numbers)
    return (IPv6Address("2001:db8:2::") + number for number in numbers)


def knock_to_open(client: Host, contenders: Sequence[tuple[Contender, int]], rounds: int) -> Rounds:
    """From the knock on the wire to the first SYN accepted; contenders each with an IP version."""
    cases: dict[str, Callable[[], Opening | None]] = {}
    for contender, family in contenders:
        title = f"{contender.title}, IPv{family}"
        cases[title] = _knock_case(client, contender, sources(family))
    return _rounds(cases, rounds)


def start_to_open(client: Host, contenders: Sequence[Contender], rounds: int) -> Rounds:
    """From the start of the client's process to the first SYN accepted."""
    return _rounds({each.title: _start_case(client, each, sources(4)) for each in contenders}, rounds)


def processes(client: Host, server: Ours, peer: Contender | None, rounds: int) -> list[Series]:
    """Wall time of the clients' processes, from start to end, and of an interpreter that does nothing."""
    commands: dict[str, Callable[[], tuple[list[str], dict[str, str]]]] = {
        "spa-client knock, both families, answers verified": lambda: _plain_knock(server),
        "spa-client --help": lambda: ([str(SCRIPTS / "spa-client"), "--help"], {}),
        "python3 that does nothing, as the floor": lambda: ([sys.executable, "-c", "pass"], {}),
    }
    if peer is not None:
        anybody = IPv4Address("203.0.113.250")
        commands["fwknop, sends and does not know"] = lambda: peer.command(anybody)
    taken: dict[str, list[float | None]] = {title: [] for title in commands}
    for number in range(WARM_UP + rounds):
        for title in random.sample(list(commands), len(commands)):
            took_ms = _wall_ms(client, *commands[title]())
            if number >= WARM_UP:
                taken[title].append(took_ms)
    return [Series(title, "ms", tuple(values)) for title, values in taken.items()]


def openings(rounds: Rounds, title: str, of: Callable[[Opening], float | None]) -> Series:
    """One figure of every opening of a case."""
    return Series(title, "ms", tuple(of(each) if each is not None else None for each in rounds[title]))


def _rounds(cases: Mapping[str, Callable[[], Opening | None]], rounds: int) -> Rounds:
    results: Rounds = {title: [] for title in cases}
    for number in range(WARM_UP + rounds):
        for title in random.sample(list(cases), len(cases)):
            time.sleep(random.uniform(0.02, PAUSE_S))
            opening = cases[title]()
            if number >= WARM_UP:
                results[title].append(opening)
    return results


def _knock_case(client: Host, contender: Contender, own: Iterator[Address]) -> Callable[[], Opening | None]:
    def measure() -> Opening | None:
        source = next(own)
        server = contender.host.address(source.version)
        datagram = contender.knock(source)
        with udp_socket(client, source) as sock:
            sock.connect((str(server), KNOCK_PORT))
            return time_opening(
                client, source, server, lambda: _send(sock, datagram), spacing_s=SPACING_S, patience_s=PATIENCE_S
            )

    return measure


def _send(sock: socket.socket, datagram: bytes) -> int:
    sock.send(datagram)
    return 0


def _start_case(client: Host, contender: Contender, own: Iterator[Address]) -> Callable[[], Opening | None]:
    def measure() -> Opening | None:
        source = next(own)
        argv, environment = contender.command(source)
        started: list[subprocess.Popen[bytes]] = []

        def start() -> int:
            # The process starts in the namespace of the thread that starts it.
            with client.enter():
                now_ns = time.time_ns()
                # Both outputs: that another address is named than the one it knocks from is worth a warning, not here.
                quiet = subprocess.DEVNULL
                started.append(subprocess.Popen(argv, env=environment, stdout=quiet, stderr=quiet))
            return now_ns

        try:
            return time_opening(
                client, source, contender.host.ipv4, start, spacing_s=SPACING_S * 4, patience_s=PATIENCE_S
            )
        finally:
            for process in started:
                process.wait(timeout=COMMAND_PATIENCE_S)

    return measure


def _plain_knock(server: Ours) -> tuple[list[str], dict[str, str]]:
    _, environment = server.command(IPv4Address("203.0.113.250"))
    return [str(SCRIPTS / "spa-client"), "knock", "office"], environment


def _wall_ms(client: Host, argv: list[str], environment: dict[str, str]) -> float:
    with client.enter():
        begun_ns = time.perf_counter_ns()
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=COMMAND_PATIENCE_S
        )
        took_ms = (time.perf_counter_ns() - begun_ns) / 1e6
    if done.returncode:
        raise LabError(f"{argv[0].rpartition('/')[2]} ended with {done.returncode}: {done.stderr.strip()}")
    return took_ms
