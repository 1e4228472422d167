"""`spa-client proxy`: nothing but the connection's bytes, all of them, and each direction's end; `ssh-config`."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_client.commands import run
from spa_client.destination import find_destination
from spa_client.errors import BadUsage
from spa_client.perimeter import KnownService, Perimeter
from spa_client.ssh_stanza import stanza
from spa_client.storage import Store
from tests.client.gatekeeper import Gatekeeper
from tests.client.processes import answer_after_the_end, everything, offered, serving, start_client
from tests.client.test_waiting import free_port
from tests.stalls import wait_until

MANY = os.urandom(1 << 20) * 20
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def port(server: Gatekeeper) -> Iterator[int]:
    """A service, open at that port, that answers once all has been said to it."""
    with serving(answer_after_the_end) as port:
        server.behaviour.services = (offered("ssh", port),)
        yield port


def start_proxy(port: int, **options: object) -> subprocess.Popen[bytes]:
    """A proxy to the service ssh at that port."""
    return start_client("proxy", "office", "127.0.0.1", str(port), "--service", "ssh", **options)


def proxied(port: int, said: bytes) -> tuple[int, bytes, str]:
    """Exit code, output and errors of a proxy to which something is said."""
    with start_proxy(port) as process:
        out, err = process.communicate(said, timeout=60)
    return process.returncode, out, err.decode()


def test_a_port_that_is_known_needs_no_service(port: int, office: Perimeter) -> None:
    with start_client("proxy", "office", "127.0.0.1", str(port)) as process:
        assert process.communicate(b"hello", timeout=60) == (b"all: hello", b"")


class TestRelaying:
    """Standard input to the connection, the connection to standard output."""

    def test_each_end_is_handed_on_and_the_other_direction_goes_on(self, port: int, office: Perimeter) -> None:
        assert proxied(port, b"hello") == (0, b"all: hello", "")

    def test_nothing_is_lost_of_much(self, port: int, office: Perimeter) -> None:
        code, out, _ = proxied(port, MANY)
        assert code == 0
        assert out == b"all: " + MANY

    def test_what_the_server_ends_first_is_all_there_and_it_can_still_be_talked_to(
        self, server: Gatekeeper, office: Perimeter
    ) -> None:
        heard: list[bytes] = []

        def say_first(connection: socket.socket) -> None:
            connection.sendall(MANY)
            connection.shutdown(socket.SHUT_WR)
            heard.append(everything(connection))

        with serving(say_first) as port:
            server.behaviour.services = (offered("ssh", port),)
            with start_proxy(port) as process:
                assert process.stdout is not None
                assert process.stdin is not None
                assert process.stdout.read() == MANY, "the end of it was told"
                process.stdin.write(b"thanks")
                process.stdin.close()
                assert process.wait(60) == 0
        wait_until(lambda: heard == [b"thanks"], "what was said last")

    @pytest.mark.skipif(sys.platform == "win32", reason="sockets are no files there")
    def test_files_terminals_and_sockets_will_do_in_place_of_pipes(
        self, port: int, office: Perimeter, tmp_path: Path
    ) -> None:
        said, heard = tmp_path / "said", tmp_path / "heard"
        said.write_bytes(MANY)
        with (
            said.open("rb") as stdin,
            heard.open("wb") as stdout,
            start_proxy(port, stdin=stdin, stdout=stdout) as process,
        ):
            assert process.wait(60) == 0
        assert heard.read_bytes() == b"all: " + MANY
        ours, theirs = socket.socketpair()
        with ours, start_proxy(port, stdin=theirs, stdout=theirs) as process:
            theirs.close()
            ours.sendall(b"hello")
            ours.shutdown(socket.SHUT_WR)
            assert everything(ours) == b"all: hello"

    def test_pipes_that_do_not_block_lose_nothing_either(self, port: int, office: Perimeter) -> None:
        stdin, ours = os.pipe()
        heard, stdout = os.pipe()
        for end in (stdin, stdout):
            os.set_blocking(end, False)
        with start_proxy(port, stdin=stdin, stdout=stdout) as process:
            os.close(stdin)
            os.close(stdout)
            with os.fdopen(ours, "wb") as saying, os.fdopen(heard, "rb") as hearing:
                saying.write(MANY)
                saying.close()
                assert hearing.read() == b"all: " + MANY
            assert process.wait(60) == 0

    def test_while_nothing_is_said_the_pipes_can_be_used(self, server: Gatekeeper, office: Perimeter) -> None:
        """The kernel locks a pipe for as long as it waits for the socket in a splice."""

        def greet(connection: socket.socket) -> None:
            connection.sendall(b"SSH")
            everything(connection)

        with serving(greet) as port:
            server.behaviour.services = (offered("ssh", port),)
            with start_proxy(port) as process:
                assert process.stdout is not None
                os.set_blocking(process.stdout.fileno(), False)
                wait_until(lambda: process.stdout is not None and process.stdout.read(3) == b"SSH", "the greeting")
                assert process.stdout.read(1) is None, "it waits, and so do we not"
                process.communicate(timeout=60)

    def test_when_the_reader_has_gone_it_ends(self, server: Gatekeeper, office: Perimeter) -> None:
        def talk(connection: socket.socket) -> None:
            while True:
                connection.sendall(b"x" * 65536)

        with serving(talk) as port:
            server.behaviour.services = (offered("ssh", port),)
            with start_proxy(port) as process:
                assert process.stdout is not None
                process.stdout.read(1)
                process.stdout.close()
                assert process.wait(60) == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_it_and_the_lease_is_given_back(
        self, number: int, server: Gatekeeper, office: Perimeter
    ) -> None:
        def greet(connection: socket.socket) -> None:
            connection.sendall(b"SSH")
            everything(connection)

        with serving(greet) as port:
            server.behaviour.services = (offered("ssh", port),)
            with start_proxy(port) as process:
                assert process.stdout is not None
                assert process.stdout.read(3) == b"SSH"
                assert server.closes() == []
                process.send_signal(number)
                assert process.wait(60) == 0
        assert len(server.closes()) == 2

    def test_the_lease_is_held_meanwhile_and_given_back(self, server: Gatekeeper, office: Perimeter) -> None:
        with serving(answer_after_the_end) as port:
            server.behaviour.services = (offered("ssh", port, lease_s=2),)
            with start_proxy(port) as process:
                wait_until(lambda: len(server.knocks()) >= 4, "a renewal")
                process.communicate(b"", timeout=60)
        assert len(server.closes()) == 2


class TestWhatGoesWrong:
    """One line on standard error, nothing on standard output, and the documented codes."""

    def test_a_port_of_no_service_names_those_there_are(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["proxy", "office", "127.0.0.1", "2222"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "web (tcp/8443)" in said.err
        assert said.err.count("\n") == 1

    def test_a_host_that_is_neither_the_server_nor_known(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["proxy", "office", "nowhere.invalid", "8443"]) == 2
        assert "127.0.0.1" in capsys.readouterr().err

    def test_nothing_listens_behind_the_open_door(
        self, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.services = (offered("ssh", port := free_port()),)
        assert run(["proxy", "office", "127.0.0.1", str(port), "--service", "ssh"]) == 7
        assert "turns the connection down" in capsys.readouterr().err
        assert server.closes() != []

    def test_a_connection_that_breaks_is_told(self, server: Gatekeeper, office: Perimeter) -> None:
        def break_it(connection: socket.socket) -> None:
            connection.sendall(b"SSH")
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with serving(break_it) as port:
            server.behaviour.services = (offered("ssh", port),)
            with start_proxy(port) as process:
                assert process.stdout is not None
                assert process.stdin is not None
                assert process.stdout.read(3) == b"SSH"
                process.stdin.write(b"x")
                process.stdin.flush()
                assert process.wait(60) == 7
                assert process.stderr is not None
                assert b"broke" in process.stderr.read()


class TestDestinations:
    """What HOST and PORT mean."""

    @pytest.fixture
    def gateway(self, office: Perimeter) -> Perimeter:
        services = (KnownService("web", 8443, 0, False), KnownService("ssh", 22, 0, False))
        return replace(office, hosts=("gw.example.org", "2001:db8::1"), services=services)

    @pytest.mark.parametrize("host", ["gw.example.org", "GW.example.org.", "2001:DB8:0::1", "[2001:db8::1]", "office"])
    def test_the_servers_names_mean_the_address_that_opened(self, host: str, gateway: Perimeter) -> None:
        destination = find_destination(gateway, host, 22)
        assert destination.services == ("ssh",)
        assert destination.beyond == ()

    def test_another_host_is_one_behind_the_server(self, gateway: Perimeter) -> None:
        assert find_destination(gateway, "10.9.0.2", 8443).beyond == (ip_address("10.9.0.2"),)

    def test_a_port_that_the_caller_knows_better_is_taken(self, gateway: Perimeter) -> None:
        assert find_destination(gateway, "office", 9005, "web").services == ("web",)

    def test_where_no_service_is_known_all_are_asked_for(self, gateway: Perimeter) -> None:
        assert find_destination(replace(gateway, services=()), "office", 22).services == ()

    def test_a_port_of_none_is_refused(self, gateway: Perimeter) -> None:
        with pytest.raises(BadUsage, match=r"web \(tcp/8443\), ssh \(tcp/22\)"):
            find_destination(gateway, "office", 2222)


class TestSshConfig:
    """The stanza."""

    def test_ssh_reads_it_as_meant(self, office: Perimeter, store: Store, capsys: Captured, tmp_path: Path) -> None:
        assert run(["ssh-config", "office"]) == 0
        config = tmp_path / "config"
        config.write_text(capsys.readouterr().out)
        words = ["ssh", "-G", "-F", str(config), "office"]
        read = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        assert "hostname 127.0.0.1" in read
        assert next(line for line in read if line.startswith("proxycommand")).endswith(" proxy office %h %p")

    def test_a_program_with_blanks_and_percent_signs_in_its_path_is_found(
        self, office: Perimeter, tmp_path: Path
    ) -> None:
        program = tmp_path / 'it\'s 100%h of a "path"' / "spa-client"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\necho "$0 $*" >&2\nexit 1\n')
        program.chmod(0o755)
        config = tmp_path / "config"
        config.write_text(stanza(office, (str(program),)))
        words = ["ssh", "-F", str(config), "-p", "8443", "office"]
        said = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stderr
        assert f"{program} proxy office 127.0.0.1 8443\n" in said

    def test_a_known_service_gives_the_port(self, office: Perimeter) -> None:
        services = (KnownService("web", 8443, 0, False), KnownService("ssh-admin", 2222, 0, False))
        assert "    Port 2222\n" in stanza(replace(office, services=services), ("spa-client",))
        assert "Port" not in stanza(office, ("spa-client",))

    def test_the_program_is_named_from_any_folder(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["ssh-config"]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if "ProxyCommand" in line)
        assert Path(shlex.split(line)[1]).is_absolute()

    def test_without_a_perimeter_it_says_what_to_do(self, store: Store, capsys: Captured) -> None:
        assert run(["ssh-config"]) == 5
        assert "spa-client join" in capsys.readouterr().err
