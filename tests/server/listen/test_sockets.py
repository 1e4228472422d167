"""Knock sockets on a host with several addresses: what was knocked at is known, and the answer leaves from there."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from spa_protocol.seal import DATAGRAM_SIZE
from spa_server.listen.sockets import MOST_AT_ONCE, PortTaken, Received, answer, bind_knock_sockets, is_here, receive
from spa_server.service import Address
from tests.lab import Host, Lab

PORT = 62201
PATIENCE_S = 20.0
"""For what must come; it comes at once unless the machine stands still."""
SECOND = {4: "198.51.100.2", 6: "2001:db8:1::2"}
KNOCK = bytes(range(256)) * 2
ANY = (ip_address("0.0.0.0"), ip_address("::"))


@dataclass(slots=True)
class Door:
    """A host with two addresses a family, and knock sockets on it."""

    server: Host
    alice: Host
    sockets: list[socket.socket]

    def addresses(self, family: int) -> tuple[Address, Address]:
        return self.server.address(family), ip_address(SECOND[family])

    def arrivals(self, at_least: int = 1) -> list[tuple[socket.socket, Received]]:
        """What has come in, when there is as much or the patience is over."""
        found: list[tuple[socket.socket, Received]] = []
        while len(found) < at_least and (ready := select.select(self.sockets, (), (), PATIENCE_S)[0]):
            for sock in ready:
                found += [(sock, received) for received in receive(sock)]
        return found

    @contextmanager
    def having(self, address: str) -> Iterator[None]:
        """With one more address for the time of the block."""
        argv = ["ip", "address", "add", f"{address}/{32 if '.' in address else 128}", "dev", "eth0"]
        self.server.run(argv if "." in address else [*argv, "nodad"])
        try:
            yield
        finally:
            self.server.run(["ip", "address", "delete", argv[3], "dev", "eth0"])


@pytest.fixture
def door(module_lab: Lab) -> Iterator[Door]:
    server = module_lab.server
    for family, address in SECOND.items():
        argv = ["ip", "address", "replace", f"{address}/{24 if family == 4 else 64}", "dev", "eth0", "nodad"]
        server.run(argv if family == 6 else argv[:-1])
    with server.enter():
        sockets = bind_knock_sockets(ANY, (PORT,))
    yield Door(server, module_lab.clients["alice"], sockets)
    for sock in sockets:
        sock.close()


def client_socket(door: Door, family: int) -> socket.socket:
    sock = door.alice.new_socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE_S)
    return sock


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("which", [0, 1], ids=["first address", "second address"])
def test_a_datagrams_path_is_known_and_its_answer_takes_it_back(door: Door, family: int, which: int) -> None:
    knocked_at = door.addresses(family)[which]
    with client_socket(door, family) as sock:
        sock.sendto(KNOCK, (str(knocked_at), PORT))
        ((heard_by, received),) = door.arrivals()
        assert received.datagram == KNOCK
        assert (received.path.source, received.path.destination) == (door.alice.address(family), knocked_at)
        assert received.source_port == sock.getsockname()[1]
        answer(heard_by, received, b"answer")
        data, peer = sock.recvfrom(100)
    assert data == b"answer"
    assert (ip_address(peer[0]), peer[1]) == (knocked_at, PORT)


def test_a_link_local_knock_is_answered_on_its_own_link(door: Door) -> None:
    listed = door.server.run(["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).stdout
    link_local = listed.split()[3].partition("/")[0]
    with door.alice.enter():
        scope = socket.if_nametoindex("eth0")
    with client_socket(door, 6) as sock:
        sock.sendto(KNOCK, (link_local, PORT, 0, scope))
        ((heard_by, received),) = door.arrivals()
        assert received.path.destination == ip_address(link_local)
        assert received.path.source.is_link_local
        answer(heard_by, received, b"answer")
        assert sock.recv(100) == b"answer"


@pytest.mark.parametrize("size", [0, 1, DATAGRAM_SIZE - 1, DATAGRAM_SIZE + 1, 1400])
def test_a_datagram_of_another_size_is_left_out(door: Door, size: int) -> None:
    with client_socket(door, 4) as sock:
        sock.sendto(bytes(size), (str(door.server.ipv4), PORT))
        sock.sendto(KNOCK, (str(door.server.ipv4), PORT))
    assert [received.datagram for _, received in door.arrivals()] == [KNOCK]


def test_a_datagram_to_all_nodes_is_left_out(door: Door) -> None:
    with door.alice.enter():
        scope = socket.if_nametoindex("eth0")
    with client_socket(door, 6) as sock:
        sock.sendto(KNOCK, ("ff02::1", PORT, 0, scope))
        sock.sendto(KNOCK, (str(door.server.ipv6), PORT))
    assert [received.path.destination for _, received in door.arrivals()] == [door.server.ipv6]


def test_other_work_gets_its_turn_after_so_many(door: Door) -> None:
    with client_socket(door, 4) as sock:
        for _ in range(MOST_AT_ONCE + 10):
            sock.sendto(KNOCK, (str(door.server.ipv4), PORT))
    time.sleep(0.2)  # a busy kernel may put some of them off
    ready = select.select(door.sockets, (), (), PATIENCE_S)[0]
    assert [len(list(receive(each))) for each in ready] == [MOST_AT_ONCE]
    assert len(door.arrivals(10)) == 10


def test_an_answer_that_cannot_be_sent_is_no_fault(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with client_socket(door, 4) as sock:
        sock.sendto(KNOCK, (SECOND[4], PORT))
        ((heard_by, received),) = door.arrivals()
    door.server.run(["ip", "address", "delete", f"{SECOND[4]}/24", "dev", "eth0"])
    answer(heard_by, received, b"answer")
    assert "was not sent" in caplog.text


@pytest.mark.parametrize("family", [4, 6])
def test_several_ports_are_heard_and_each_answers_for_itself(door: Door, family: int) -> None:
    ports = (PORT, PORT + 1, PORT + 2)
    with door.server.enter():
        bound = bind_knock_sockets(ANY, ports, door.sockets)
    assert set(door.sockets) < set(bound)
    assert sorted(sock.getsockname()[1] for sock in bound) == sorted(2 * ports)
    door.sockets = bound
    for port in ports:
        with client_socket(door, family) as sock:
            sock.sendto(KNOCK, (str(door.server.address(family)), port))
            ((heard_by, received),) = door.arrivals()
            answer(heard_by, received, b"answer")
            assert sock.recvfrom(100)[1][1] == port


def test_where_one_of_several_ports_is_in_use_none_is_taken(door: Door) -> None:
    with door.server.enter():
        with door.server.bind_udp(PORT + 2), pytest.raises(PortTaken, match=f"udp/{PORT + 2} is in use"):
            bind_knock_sockets(ANY, (PORT, PORT + 1, PORT + 2), door.sockets)
        (again,) = bind_knock_sockets(ANY[:1], (PORT + 1,))
    again.close()
    assert all(sock.fileno() >= 0 for sock in door.sockets), "what was kept stays open"


def test_a_port_in_use_is_said_with_the_command_that_finds_the_program(door: Door) -> None:
    with door.server.enter(), pytest.raises(PortTaken, match=r"in use .* ss -lunp"):
        bind_knock_sockets(ANY, (PORT,))


@pytest.mark.parametrize("address", ["198.51.100.77", "2001:db8:1::77"])
def test_an_address_that_no_interface_has_yet_is_said_and_heard_once_one_has_it(
    door: Door, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    wanted = ip_address(address)
    with door.server.enter():
        (only,) = bind_knock_sockets((wanted,), (PORT + 1,))
        assert f"no interface has the address {address} " in caplog.text
        assert not is_here(wanted)
    with only, door.having(address):
        with door.server.enter():
            assert is_here(wanted)
        with client_socket(door, wanted.version) as sock:
            sock.sendto(KNOCK, (address, PORT + 1))
            assert select.select([only], (), (), PATIENCE_S)[0]
            (received,) = receive(only)
            answer(only, received, b"answer")
            assert sock.recv(100) == b"answer"


@pytest.mark.parametrize("address", ["198.51.100.77", "2001:db8:1::77"])
def test_an_address_that_goes_and_comes_back_is_heard_again(door: Door, address: str) -> None:
    with door.having(address), door.server.enter():
        (only,) = bind_knock_sockets((ip_address(address),), (PORT + 1,))
    with only:
        for _ in range(2):
            with door.having(address), client_socket(door, ip_address(address).version) as sock:
                sock.sendto(KNOCK, (address, PORT + 1))
                assert select.select([only], (), (), PATIENCE_S)[0]
                assert [received.datagram for received in receive(only)] == [KNOCK]


@pytest.mark.parametrize("family", [4, 6])
def test_all_addresses_are_heard_through_flaps_new_names_and_new_addresses_of_an_interface(
    door: Door, family: int
) -> None:
    def is_heard(address: Address) -> bool:
        with client_socket(door, family) as sock:
            for _ in range(int(PATIENCE_S)):  # a link that has just come up loses what is sent at once
                sock.sendto(KNOCK, (str(address), PORT))
                ready = select.select(door.sockets, (), (), 1)[0]
                if address in {received.path.destination for each in ready for received in receive(each)}:
                    return True
        return False

    server = door.server
    assert is_heard(server.address(family))
    # Without its addresses' routes the interface would be deaf: IPv6 addresses go with a link that goes down.
    server.run(["sysctl", "-qw", "net.ipv6.conf.eth0.keep_addr_on_down=1"])
    server.run(["ip", "link", "set", "eth0", "down"])
    server.run(["ip", "link", "set", "eth0", "name", "lan0"])
    server.run(["ip", "link", "set", "lan0", "up"])
    try:
        assert is_heard(server.address(family))
    finally:
        server.run(["ip", "link", "set", "lan0", "down"])
        server.run(["ip", "link", "set", "lan0", "name", "eth0"])
        server.run(["ip", "link", "set", "eth0", "up"])
    another = "198.51.100.78" if family == 4 else "2001:db8:1::78"
    with door.having(another):
        assert is_heard(ip_address(another))
    assert is_heard(server.address(family))


def test_a_socket_kept_from_before_is_taken_and_what_waits_in_it_is_not_lost(door: Door) -> None:
    with client_socket(door, 4) as sock:
        sock.sendto(KNOCK, (str(door.server.ipv4), PORT))
    with door.server.enter():
        assert bind_knock_sockets(ANY, (PORT,), door.sockets) == door.sockets
    assert [received.datagram for _, received in door.arrivals()] == [KNOCK]


@pytest.mark.parametrize("family", [4, 6])
def test_from_all_addresses_to_one_and_back_without_a_moment_of_silence(door: Door, family: int) -> None:
    one = door.server.address(family)
    with door.server.enter():
        (narrow,) = bind_knock_sockets((one,), (PORT,), door.sockets)
        assert narrow not in door.sockets
        wide = bind_knock_sockets(ANY, (PORT,), [*door.sockets, narrow])
        assert wide == door.sockets
        with pytest.raises(PortTaken):  # nobody else can share the port
            bind_knock_sockets((one,), (PORT,))
    with client_socket(door, family) as sock:
        sock.sendto(KNOCK, (str(one), PORT))
        assert select.select([narrow], (), (), PATIENCE_S)[0]
    narrow.close()


def test_a_socket_kept_from_before_that_does_not_fit_is_not_taken(door: Door) -> None:
    with door.server.enter():
        bound = bind_knock_sockets(ANY, (PORT + 2,), door.sockets)
        assert not set(bound) & set(door.sockets)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as both_families:
            both_families.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            both_families.bind(("::", PORT + 3))
            with pytest.raises(PortTaken):
                bind_knock_sockets((ip_address("0.0.0.0"),), (PORT + 3,))
            assert both_families not in bind_knock_sockets((ip_address("::"),), (PORT + 3,), [both_families])
    for sock in bound:
        sock.close()


def test_one_address_alone_hears_only_what_is_sent_to_it(door: Door) -> None:
    with door.server.enter():
        (only,) = bind_knock_sockets((ip_address(SECOND[4]),), (PORT + 1,))
    with only, client_socket(door, 4) as sock:
        sock.sendto(KNOCK, (str(door.server.ipv4), PORT + 1))
        sock.sendto(KNOCK, (SECOND[4], PORT + 1))
        assert select.select([only], (), (), PATIENCE_S)[0]
        assert [received.path.destination for received in receive(only)] == [ip_address(SECOND[4])]


def test_an_empty_socket_gives_nothing_and_does_not_wait(door: Door) -> None:
    assert [list(receive(sock)) for sock in door.sockets] == [[], []]
