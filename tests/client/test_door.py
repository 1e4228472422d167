"""`spa-client open`: a local door that knocks when somebody comes, and shuts when nobody is left."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from spa_client import local_peer
from spa_client.commands import run
from spa_client.commands.open_door import _far_end
from spa_client.errors import BadSurroundings, BadUsage
from spa_client.local_ports import listen, listen_near
from spa_client.perimeter import KnownService, Perimeter
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.client.processes import answer_after_the_end, everything, offered, serving, start_client
from tests.client.test_waiting import free_port
from tests.stalls import PATIENCE_S, wait_until

MANY = os.urandom(1 << 20) * 5


class OpenDoor:
    """A running `spa-client open office web`; `events` are those it has told so far."""

    def __init__(self, *options: str) -> None:
        self.process = start_client("open", "office", "web", "--json", "--timeout", "20", *options)
        self.events: list[dict[str, object]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: bool(self.events), "the door")
        self.port = int(str(self.events[0]["url"]).rpartition(":")[2].strip("/"))

    def told(self) -> list[object]:
        return [event["event"] for event in self.events]

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection((address, self.port), timeout=PATIENCE_S)

    def ask(self, said: bytes) -> bytes:
        """Say it, end, and hear all of the answer."""
        with self.connect() as connection:
            threading.Thread(target=said_and_ended, args=(connection, said), daemon=True).start()
            return everything(connection)

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(60)
        self._reader.join(60)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))


def said_and_ended(connection: socket.socket, said: bytes) -> None:
    connection.sendall(said)
    connection.shutdown(socket.SHUT_WR)


Open = Callable[..., OpenDoor]


@pytest.fixture
def open_door(server: Gatekeeper, office: Perimeter) -> Iterator[Open]:
    """Open a door to a service at that port."""
    with contextlib.ExitStack() as stack:

        def open_it(port: int, *options: str, lease_s: int = 30) -> OpenDoor:
            server.behaviour.services = (offered("web", port, lease_s),)
            door = OpenDoor("--port", str(port), *options)
            stack.callback(door.process.communicate)
            stack.callback(door.process.kill)
            return door

        yield open_it


class TestTheDoor:
    """Connections, the lease behind them, and the end."""

    def test_nobody_knocks_before_somebody_comes(self, server: Gatekeeper, open_door: Open) -> None:
        with serving(answer_after_the_end) as port:
            door = open_door(port)
            assert server.knocks() == []
            assert door.ask(b"hello") == b"all: hello"
            assert len(server.knocks()) == 2

    def test_the_ipv6_loopback_has_the_same_port(self, open_door: Open) -> None:
        with serving(answer_after_the_end) as port:
            door = open_door(port)
            with door.connect("::1") as connection:
                said_and_ended(connection, b"hello")
                assert everything(connection) == b"all: hello"

    def test_many_connections_at_once_lose_nothing_and_share_one_knock(
        self, server: Gatekeeper, open_door: Open
    ) -> None:
        with serving(answer_after_the_end) as port:
            door = open_door(port)
            said = [MANY[number:] for number in range(30)]
            heard: dict[int, bytes] = {}

            def ask(number: int) -> None:
                heard[number] = door.ask(said[number])

            threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(len(said))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            assert [heard.get(number) == b"all: " + each for number, each in enumerate(said)] == [True] * len(said)
            assert len(server.knocks()) == 2

    def test_what_the_service_ends_first_is_all_there_and_it_can_still_be_talked_to(self, open_door: Open) -> None:
        heard: list[bytes] = []

        def say_first(connection: socket.socket) -> None:
            said_and_ended(connection, MANY)
            heard.append(everything(connection))

        with serving(say_first) as port, open_door(port).connect() as connection:
            assert everything(connection) == MANY
            said_and_ended(connection, b"thanks")
            wait_until(lambda: heard == [b"thanks"], "what was said last")

    def test_a_connection_that_breaks_there_breaks_here(self, open_door: Open) -> None:
        def break_it(connection: socket.socket) -> None:
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with serving(break_it) as port, open_door(port).connect() as connection:
            connection.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                everything(connection)

    def test_a_live_connection_keeps_the_lease_and_the_last_one_gives_it_back(
        self, server: Gatekeeper, open_door: Open
    ) -> None:
        with serving(answer_after_the_end) as port:
            door = open_door(port, "--idle", "0.2", lease_s=2)
            with door.connect() as connection:
                wait_until(lambda: len(server.knocks()) >= 4, "a renewal")
                assert server.closes() == []
                said_and_ended(connection, b"hello")
                assert everything(connection) == b"all: hello"
            wait_until(lambda: len(server.closes()) == 2, "the close")
            knocked = len(server.knocks())
            assert door.ask(b"again") == b"all: again"
            assert len(server.knocks()) == knocked + 2, "and the next one opens again"

    def test_a_refusal_turns_the_connection_away_and_the_next_may_be_let_in(
        self, server: Gatekeeper, open_door: Open
    ) -> None:
        with serving(answer_after_the_end) as port:
            door = open_door(port)
            server.behaviour.refuse = Refusal.DEVICE_DISABLED
            with pytest.raises(ConnectionResetError), door.connect() as connection:
                everything(connection)
            wait_until(lambda: "turned_away" in door.told(), "the reason")
            server.behaviour.refuse = None
            assert door.ask(b"hello") == b"all: hello"

    def test_nothing_listens_behind_the_open_door(self, open_door: Open) -> None:
        door = open_door(free_port(), "--listen", str(free_port()))
        with pytest.raises(ConnectionResetError), door.connect() as connection:
            everything(connection)
        wait_until(lambda: "turned_away" in door.told(), "the reason")
        assert "turns the connection down" in str(door.events[-1]["error"])

    def test_a_door_never_leads_to_itself(self, open_door: Open) -> None:
        port = free_port()
        door = open_door(port, "--listen", str(port))
        with pytest.raises(ConnectionResetError), door.connect() as connection:
            everything(connection)
        wait_until(lambda: "turned_away" in door.told(), "the reason")
        assert "itself" in str(door.events[-1]["error"])

    def test_at_the_end_the_lease_is_given_back(self, server: Gatekeeper, open_door: Open) -> None:
        with serving(answer_after_the_end) as port:
            door = open_door(port)
            with door.connect() as connection:
                wait_until(lambda: "opened" in door.told(), "the knock")
                assert door.end() == 0
                with contextlib.suppress(ConnectionResetError):
                    assert everything(connection) == b""
        assert door.told()[-1] == "given_back"
        assert len(server.closes()) == 2

    def test_also_where_it_comes_while_it_is_being_opened(self, server: Gatekeeper, open_door: Open) -> None:
        server.behaviour.delay_s = {4: 0.5, 6: 0.5}
        with serving(answer_after_the_end) as port:
            door = open_door(port)
            with door.connect():
                wait_until(lambda: bool(server.knocks()), "the knock")
                assert door.end() == 0
        assert door.told()[-1] == "given_back"
        wait_until(lambda: len(server.closes()) == 2, "the close")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who is there")
class TestOtherUsers:
    """Who else uses this computer."""

    CONNECT = "import socket,sys; print(socket.create_connection(('{}', {}), 30).recv(9))"

    def as_nobody(self, address: str, port: int) -> subprocess.CompletedProcess[str]:
        words = ["/usr/bin/python3", "-c", self.CONNECT.format(address, port)]
        return subprocess.run(words, user=65534, group=65534, capture_output=True, text=True, check=False, cwd="/")

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_another_user_is_turned_away_before_anything_is_knocked(
        self, address: str, server: Gatekeeper, open_door: Open
    ) -> None:
        with serving(lambda connection: connection.sendall(b"secret")) as port:
            door = open_door(port)
            assert "secret" not in self.as_nobody(address, door.port).stdout
            wait_until(lambda: "turned_away" in door.told(), "the reason")
            assert server.knocks() == []

    def test_unless_everybody_may_come_in(self, open_door: Open) -> None:
        with serving(lambda connection: connection.sendall(b"secret")) as port:
            assert "secret" in self.as_nobody("127.0.0.1", open_door(port, "--any-user").port).stdout

    def test_whoever_has_gone_is_nobody_that_is_known(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        with ours:
            assert not local_peer.is_foreign(ours)
            theirs.close()
            assert local_peer.is_foreign(ours)


class TestPorts:
    """Where it listens and where it leads."""

    def test_a_port_that_is_taken_leads_to_the_next(self) -> None:
        taken = listen(0)
        port = taken[0].getsockname()[1]
        near = listen_near(port)
        assert near[0].getsockname()[1] != port
        assert len({listener.getsockname()[1] for listener in near}) == 1
        for listener in (*taken, *near):
            listener.close()

    def test_one_that_was_asked_for_is_had_or_told(self) -> None:
        taken = listen(0)
        with pytest.raises(BadSurroundings, match="--listen"):
            listen(taken[0].getsockname()[1])
        for listener in taken:
            listener.close()

    def test_it_is_reached_from_this_computer_only(self) -> None:
        for listener in listen(0):
            with listener:
                assert listener.getsockname()[0] in ("127.0.0.1", "::1")

    def test_the_only_service_needs_no_name(self, office: Perimeter) -> None:
        assert _far_end(office, None, None) == (("web",), 8443)
        assert _far_end(office, "web", 9000) == (("web",), 9000)

    def test_several_have_to_be_told_apart(self, office: Perimeter) -> None:
        several = replace(office, services=(*office.services, KnownService("ssh", 22, 0, False)))
        with pytest.raises(BadUsage, match=r"web \(tcp/8443\), ssh \(tcp/22\)"):
            _far_end(several, None, None)
        assert _far_end(several, None, 22) == (("ssh",), 22)

    def test_a_service_without_a_known_port_needs_one(self, office: Perimeter) -> None:
        assert run(["open", "office", "cellar"]) == 2
        with pytest.raises(BadUsage, match="--port"):
            _far_end(replace(office, services=()), None, None)
