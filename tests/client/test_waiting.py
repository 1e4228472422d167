"""Waiting for a port, getting through to it, and the pinhole from Python."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

import spa_client
from spa_client.errors import NeverOpened, NoAnswer, Refused
from spa_client.knocking import Request
from spa_client.opening import Wait, knock_until_open
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_client.waiting import connect, wait_open
from spa_protocol.answer import AnsweredService
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.stalls import promptly, wait_until

V4, V6 = IPv4Address("127.0.0.1"), IPv6Address("::1")


@contextlib.contextmanager
def listening(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A TCP port that accepts; its number."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        yield listener.getsockname()[1]


def free_port() -> int:
    """A TCP port on which nothing listens."""
    with listening() as port:
        return port


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread will bring about."""
    wait_until(condition, "what another thread brings about")


class TestWaiting:
    """Watching a port open."""

    def test_an_open_port_is_found_at_once(self) -> None:
        with listening() as port:
            assert promptly(lambda: wait_open([V4], port, 20), 0.3).address == V4

    def test_either_family_will_do(self) -> None:
        with listening("::1") as port:
            assert wait_open([V4, V6], port, 20).address == V6

    def test_a_port_that_opens_later_is_found(self) -> None:
        port = free_port()
        found: list[object] = []
        waiter = threading.Thread(target=lambda: found.append(wait_open([V4], port, 30).address))
        waiter.start()
        time.sleep(0.2)
        with listening(port=port):
            waiter.join(60)
        assert found == [V4]

    def test_a_port_that_refuses_is_told_from_one_that_is_silent(self) -> None:
        waited = wait_open([V4], free_port(), 2)
        assert waited.address is None
        assert waited.refused

    def test_the_time_is_kept(self) -> None:
        def wait_in_vain() -> None:
            start_s = time.monotonic()
            wait_open([V4, V6], free_port(), 0.3)
            assert time.monotonic() - start_s > 0.25

        promptly(wait_in_vain, 0.8)

    def test_no_addresses_never_open(self) -> None:
        assert wait_open([], 1, 0.05).address is None


class TestConnecting:
    """Getting through to a port that should be open."""

    def test_the_connection_is_handed_over(self) -> None:
        with listening() as port:
            connected = connect([V4], port, 20)
            assert connected.connection is not None
            with connected.connection as connection:
                assert connection.getpeername() == ("127.0.0.1", port)
                assert connection.getblocking()

    def test_the_next_address_is_tried_where_the_first_refuses(self) -> None:
        with listening("::1") as port:
            connected = connect([V4, V6], port, 20)
            assert connected.connection is not None
            with connected.connection as connection:
                assert connection.getpeername()[0] == "::1"

    def test_one_attempt_is_made_where_it_succeeds(self) -> None:
        with listening() as port, listening("::1", port):
            connected = connect([V6, V4], port, 20)
            assert connected.connection is not None
            with connected.connection as connection:
                assert connection.getpeername()[0] == "::1"

    def test_when_all_refuse_it_is_over_at_once_and_says_why(self) -> None:
        connected = promptly(lambda: connect([V4, V6], free_port(), 20), 2)
        assert connected.connection is None
        assert "refused" in connected.reason

    def test_no_addresses_are_never_reached(self) -> None:
        assert connect([], 1, 20).connection is None


class TestOpening:
    """Knock, and make sure."""

    def test_a_confirmed_knock_needs_no_probe(self, office: Perimeter, store: Store) -> None:
        assert knock_until_open(store, office, Request(), Wait(port=free_port())).confirmed

    def test_granted_but_not_open_says_so(self, office: Perimeter, store: Store) -> None:
        port = free_port()
        with pytest.raises(NeverOpened, match=f"granted, but tcp/{port} on .* did not open within 0.3 s") as caught:
            knock_until_open(store, office, Request(), Wait(port=port, always=True, timeout_s=0.3))
        assert caught.value.exit_code == 4

    def test_without_an_answer_the_port_decides(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.silent = True
        with listening() as port:
            opened = knock_until_open(store, office, Request(timeout_s=0.2), Wait(port=port))
        assert not opened.confirmed
        assert opened.addresses == (V4,)

    def test_without_an_answer_and_without_a_port_it_is_no_answer(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        server.behaviour.silent = True
        with pytest.raises(NoAnswer):
            knock_until_open(store, replace(office, services=()), Request(timeout_s=0.2), Wait())

    def test_a_refusal_is_never_probed(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        with listening() as port, pytest.raises(Refused):
            knock_until_open(store, office, Request(), Wait(port=port))

    def test_a_server_that_never_answers_is_knocked_again_while_it_stays_shut(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        server.behaviour.silent = True
        with pytest.raises(NeverOpened, match="did not open"):
            knock_until_open(store, replace(office, answers=False), Request(), Wait(port=free_port(), timeout_s=0.3))
        until(lambda: len(server.knocks()) == 6)

    def test_what_the_server_told_is_kept(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.services = (AnsweredService("ssh", 30, 22, 0, True),)
        knock_until_open(store, office, Request(), Wait())
        assert [service.name for service in store.load("office").services] == ["web", "ssh"]


class TestThePythonInterface:
    """What `import spa_client` gives."""

    def test_knock_returns_what_opened(self, office: Perimeter, store: Store) -> None:
        opened = spa_client.knock("office", "web")
        assert isinstance(opened, spa_client.Opened)
        assert opened.services[0].name == "web"
        assert opened.services[0].left_s == 30

    def test_the_only_perimeter_needs_no_name(self, office: Perimeter, store: Store) -> None:
        assert spa_client.knock().perimeter == "office"

    def test_a_pinhole_yields_where_to_connect(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        with listening() as port:
            server.behaviour.services = (AnsweredService("web", 30, port, 0, False),)
            with spa_client.pinhole("office", wait=True) as door:
                assert door.host in server.hosts
                assert door.port == port
                assert V4 in door.addresses
                assert door.address == (str(door.addresses[0]), port)

    def test_a_refusal_is_an_exception(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.refuse = Refusal.NOTHING_ALLOWED
        with pytest.raises(spa_client.Refused) as caught:
            spa_client.knock("office")
        assert caught.value.refusal is Refusal.NOTHING_ALLOWED

    def test_every_name_is_there(self) -> None:
        for name in spa_client.__all__:
            assert getattr(spa_client, name)
            assert name in dir(spa_client)
        with pytest.raises(AttributeError):
            spa_client.nothing_of_that_name  # noqa: B018 - the access itself is what is tested

    def test_importing_it_loads_nothing_else(self) -> None:
        code = "import sys, spa_client; print([m for m in ('click', 'nacl', 'socket') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
