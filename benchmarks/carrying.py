"""How fast bytes go through `spa-client proxy` and `spa-client open`, beside a plain connection to the same server.

Whole copies, from the start of the program to its end, so that knocking and giving back are in them too; scp, and a
connection without encryption, which the client has to keep up with. It must not know the other benchmarks.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Series, ratio
from benchmarks.report import Section
from tests.end_to_end.running import SCRIPTS, Laptop, RunningServer, enrolled
from tests.end_to_end.sshd import PROGRAMS, options, running_sshd
from tests.lab import Host, Lab, check_surroundings

PLAIN_SSH, CLOSED_SSH = 2200, 2222
PLAIN_SINK, CLOSED_SINK = 9000, 9443
MEGABYTES = 200
RAW_MEGABYTES = 1000
LAPTOPS = 4
SERVICES = f"""
[service.ssh]
tcp = [{CLOSED_SSH}]
roles = ["admin"]

[service.sink]
tcp = [{CLOSED_SINK}]
roles = ["admin"]
"""
_CHUNK = bytes(1_000_000)
Copy = Callable[[], None]


def measure(folder: Path, rounds: int) -> list[Section]:
    """Two sections: scp, and plain bytes."""
    check_surroundings(PROGRAMS)
    with (
        Lab(clients=("alice",)) as lab,
        RunningServer(lab, folder, SERVICES, slots=64) as server,
        running_sshd(lab.server, folder, PLAIN_SSH, CLOSED_SSH),
        _sink(lab.server, PLAIN_SINK),
        _sink(lab.server, CLOSED_SINK),
    ):
        # Each has so many knocks a minute, so they take turns.
        laptops = [enrolled(server, lab.clients["alice"], f"laptop-{number}") for number in range(LAPTOPS)]
        turns = itertools.cycle(laptops)
        large = folder / "large"
        large.write_bytes(random.randbytes(MEGABYTES * 1_000_000))
        empty = folder / "empty"
        empty.touch()
        copies = _alternating(
            {
                f"scp of {MEGABYTES} MB, plain": lambda: _scp(next(turns), folder, large, PLAIN_SSH),
                f"scp of {MEGABYTES} MB, through proxy": lambda: _scp(next(turns), folder, large, CLOSED_SSH),
                "scp of nothing, plain": lambda: _scp(next(turns), folder, empty, PLAIN_SSH),
                "scp of nothing, through proxy": lambda: _scp(next(turns), folder, empty, CLOSED_SSH),
            },
            rounds,
        )
        with _door(laptops[0]) as port:
            raw = _alternating(
                {
                    f"{RAW_MEGABYTES} MB, plain": lambda: _pour(lab.clients["alice"], str(lab.server.ipv4), PLAIN_SINK),
                    f"{RAW_MEGABYTES} MB, through proxy": lambda: _pour_into_proxy(next(turns)),
                    f"{RAW_MEGABYTES} MB, through open": lambda: _pour(lab.clients["alice"], "127.0.0.1", port),
                },
                rounds,
            )
    carried = [
        _beyond(copies[0], copies[2], "the carrying alone, plain"),
        _beyond(copies[1], copies[3], "the carrying alone, through proxy"),
    ]
    scp = [
        _section("scp, from start to end", copies[:2]),
        _section("scp of nothing: logging in and knocking", copies[2:]),
    ]
    return [
        *scp,
        _section(f"What {MEGABYTES} MB take longer than nothing", carried),
        _section("Bytes without encryption, from start to end", raw),
    ]


def _beyond(whole: Series, nothing: Series, title: str) -> Series:
    """How much longer the whole took than nothing did, round by round."""
    pairs = zip(whole.rounds, nothing.rounds, strict=True)
    return Series(
        title, whole.unit, tuple(None if one is None or other is None else one - other for one, other in pairs)
    )


def _section(title: str, series: Sequence[Series]) -> Section:
    ratios = [found for found in (ratio(series[0], each) for each in series[1:]) if found is not None]
    return Section(title, series, ratios)


def _alternating(copies: dict[str, Copy], rounds: int) -> list[Series]:
    """Seconds of each, in rounds whose order is random; the first round is not counted."""
    taken: dict[str, list[float | None]] = {title: [] for title in copies}
    for number in range(rounds + 1):
        for title in random.sample(list(copies), len(copies)):
            begun_s = time.monotonic()
            copies[title]()
            if number:
                taken[title].append(time.monotonic() - begun_s)
    return [Series(title, "s", tuple(values)) for title, values in taken.items()]


def _scp(laptop: Laptop, folder: Path, large: Path, port: int) -> None:
    proxy = shlex.join([str(SCRIPTS / "spa-client"), "proxy", "office", "%h", "%p"]) if port == CLOSED_SSH else ""
    words = ["scp", "-q", "-P", str(port), *options(folder, proxy), str(large), "root@198.51.100.1:/dev/null"]
    laptop.host.run(words, env=laptop.env, timeout=300)


def _pour(host: Host, address: str, port: int) -> None:
    """Send it all, and wait until the sink has it."""
    with host.connect_tcp(address, port, timeout=300) as connection:
        for _ in range(RAW_MEGABYTES):
            connection.sendall(_CHUNK)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1) != b".":
            raise OSError("the sink did not get it all")


def _pour_into_proxy(laptop: Laptop) -> None:
    words = [str(SCRIPTS / "spa-client"), "proxy", "office", "198.51.100.1", str(CLOSED_SINK)]
    process = laptop.host.popen(words, env=laptop.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(RAW_MEGABYTES):
        process.stdin.write(_CHUNK)
    process.stdin.close()
    if process.stdout.read() != b"." or process.wait(60) != 0:
        raise OSError("the sink did not get it all through the proxy")


@contextlib.contextmanager
def _door(laptop: Laptop) -> Iterator[int]:
    """The local port of `spa-client open`, which stays open all the time."""
    door = laptop.start_client("open", "office", "sink", "--json", "--idle", "3600")
    assert door.stdout is not None
    yield int(json.loads(door.stdout.readline())["url"].rpartition(":")[2].strip("/"))
    door.terminate()
    door.wait(60)


@contextlib.contextmanager
def _sink(host: Host, port: int) -> Iterator[None]:
    """Reads what comes to that port, and says "." at its end."""
    with host.listen_tcp(port) as listener:

        def swallow(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                buffer = bytearray(1 << 20)
                while connection.recv_into(buffer):
                    pass
                connection.sendall(b".")

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=swallow, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
