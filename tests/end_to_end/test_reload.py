"""`spa-server reload`: a new configuration is taken over whole, with nobody inside noticing, or not at all."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_server.tell.control import ask
from tests.end_to_end.laptop import KNOCK_PORT, send_udp
from tests.end_to_end.running import NETWORK_USER, WEB, Laptop, RunningServer, enrolled
from tests.lab import Host, Lab
from tests.stalls import wait_until

CONFIGURATION, NOT_PERMITTED, FAULT = 5, 6, 7
VAULT = """
[service.vault]
tcp = [9443]
roles = ["admin"]
"""
SLOTS = 64
"""A knock takes two, one for each family: as many knocks a minute as these tests need."""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    with RunningServer(lab, folder, WEB + VAULT, slots=SLOTS) as running:
        yield running


def write(server: RunningServer, services_toml: str, **keys: object) -> None:
    """Edit server.toml; the server does not know of it yet."""
    usual: dict[str, object] = {
        "addresses": [str(server.host.ipv4), str(server.host.ipv6)],
        "state_folder": str(server.state),
        "control_socket": str(server.control_socket),
        "user": NETWORK_USER,
        "slots": SLOTS,
    }
    server.configure(services_toml, **{**usual, **keys})


class Echo:
    """A service that sends back what it gets, to any number of sessions."""

    def __init__(self, host: Host, port: int) -> None:
        self._listener = host.listen_tcp(port)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(4096):
                connection.sendall(data)


def lives(session: socket.socket) -> bool:
    """Whether the session still carries a word there and back."""
    try:
        session.sendall(b"word")
        return session.recv(100) == b"word"
    except OSError:
        return False


def reload(server: RunningServer) -> subprocess.CompletedProcess[str]:
    return server.command("reload", check=False)


def without_counts(server: RunningServer) -> str:
    shown = server.command("perimeter", "show").stdout
    return "\n".join(line for line in shown.splitlines() if "packets" not in line)


def test_a_good_reload_under_knocks_and_sessions_loses_neither(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    """Services come and go, slots and skew change; a session of the one that stays and every knock live through it."""
    bob = enrolled(server, lab.clients["neighbour"], "bob-laptop")
    echo = Echo(lab.server, 8443)
    bob.client("knock", "office", "web", "--for", "300", check=True)
    session = bob.host.connect_tcp(lab.server.ipv4, 8443)
    enough = threading.Event()
    failed: list[str] = []
    knocks = 0

    def stream() -> None:
        nonlocal knocks
        while not enough.is_set() and knocks < SLOTS // 2 - 4:
            done = alice.client("knock", "office", "web")
            knocks += 1
            if done.returncode:
                failed.append(done.stderr)

    knocking = threading.Thread(target=stream)
    knocking.start()
    try:
        for services, keys in ((WEB, {"max_skew_s": 90}), (WEB + VAULT, {"slots": 63}), (VAULT + WEB, {}), (WEB, {})):
            write(server, services, **keys)
            done = reload(server)
            assert (done.returncode, done.stdout) == (0, "reloaded\n"), done.stderr
            assert lives(session)
            before = knocks
            wait_until(lambda at=before: knocks > at or not knocking.is_alive(), "a knock after the reload")  # type: ignore[misc]
    finally:
        enough.set()
        knocking.join()
    print(f"\n{knocks} knocks during 4 reloads, {len(failed)} failed")
    assert failed == []
    assert lives(session)
    assert server.status()["fault"] == ""
    session.close()
    echo.close()


def test_a_service_that_is_gone_takes_its_leases_and_sessions_with_it(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    echoes = [Echo(lab.server, port) for port in (8443, 9443)]
    alice.client("knock", "office", "--for", "300", check=True)
    web, vault = (alice.host.connect_tcp(lab.server.ipv4, port) for port in (8443, 9443))
    assert (lives(web), lives(vault)) == (True, True)
    write(server, WEB)
    assert reload(server).returncode == 0
    assert {lease["port"] for lease in server.leases()} == {8443}
    vault.settimeout(20)
    assert not lives(vault)
    assert lives(web)
    for echo in echoes:
        echo.close()


def test_what_was_used_stays_used(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    request = alice.keys().knock("web")
    assert alice.keys().answer(alice.ask(request, lab.server.ipv4), request) is not None
    write(server, WEB, slots=SLOTS - 1, max_skew_s=120)
    assert reload(server).returncode == 0
    dropped = server.counter("knock_dropped")
    alice.send(request, lab.server.ipv4)
    wait_until(lambda: server.counter("knock_dropped") == dropped + 1, "the same datagram dropped at the gate")


def test_the_knock_port_and_the_addresses_move(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    for keys in (
        {"knock_port": 40_000},
        {"knock_port": 40_000, "listen": [str(lab.server.ipv4)]},
        {"knock_port": 40_000, "listen": ["0.0.0.0", "::"]},
        {},
    ):
        write(server, WEB, **keys)
        done = reload(server)
        assert done.returncode == 0, done.stderr
        port = int(str(keys.get("knock_port", KNOCK_PORT)))
        request = alice.keys().knock("web")
        answer = alice.keys().answer(alice.ask(request, lab.server.ipv4, port), request)
        assert answer is not None
        assert answer.refusal is None
        other = KNOCK_PORT + 40_000 - port
        assert alice.ask(alice.keys().knock("web"), lab.server.ipv4, other, patience_s=0.3) is None


@pytest.mark.parametrize(
    ("services", "keys", "said"),
    [
        ("[service.web\n", {}, "line "),
        (WEB + 'colour = "red"\n', {}, "service.web.colour"),
        (WEB, {"slots": 5}, "server.slots"),
        (WEB, {"state_folder": "/var/lib/elsewhere"}, "server.state_folder takes a restart"),
        (WEB, {"user": "daemon"}, "server.user takes a restart"),
        (WEB, {"audit_required": False}, "server.audit_required takes a restart"),
        (WEB, {"knock_port": 7777}, "udp/7777 is in use"),
    ],
)
def test_a_bad_reload_changes_nothing_and_says_why(
    server: RunningServer, alice: Laptop, lab: Lab, services: str, keys: dict[str, object], said: str
) -> None:
    before = without_counts(server)
    write(server, services, **keys)
    with lab.server.bind_udp(7777):
        done = reload(server)
    assert done.returncode == CONFIGURATION
    assert said in done.stderr
    assert "nothing was changed" in done.stderr
    assert "Traceback" not in server.log()
    assert without_counts(server) == before
    alice.client("knock", "office", "vault", check=True)
    assert server.status()["fault"] == ""


def test_every_problem_is_listed_and_logged(server: RunningServer) -> None:
    write(server, 'x = 1\n[service.web]\ntcp = [0]\ncolour = "red"\n', slots=5)
    done = reload(server)
    for key in ("server.slots", "service.web.tcp", "service.web.colour"):
        assert key in done.stderr
        server.wait_for_log(key)


def test_sighup_is_a_reload(server: RunningServer, alice: Laptop) -> None:
    assert server.process is not None
    write(server, WEB)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("reloaded")
    assert alice.client("knock", "office", "vault").returncode == 3
    assert alice.client("knock", "office", "web").returncode == 0
    write(server, "nonsense")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("not reloaded")
    alice.client("knock", "office", "web", check=True)


def test_without_a_server_there_is_nothing_to_reload(lab: Lab, folder: Path) -> None:
    server = RunningServer(lab, folder)
    done = reload(server)
    assert done.returncode == FAULT
    assert done.stderr.startswith("spa-server: no server answers on ")


def test_a_reload_that_the_firewall_process_cannot_follow_is_done_when_it_can(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    """It is stopped while it is asked; when it wakes up it has gone over, and the network process goes after it."""
    write(server, VAULT + WEB)
    server.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        with contextlib.suppress(Exception):
            ask(server.control_socket, "reload", patience_s=0.5)
    finally:
        server.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    server.wait_for_log("reloaded")
    send_udp(alice.host, bytes(512), lab.server.ipv4)
    alice.client("knock", "office", "web", "vault", check=True)
