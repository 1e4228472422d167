"""Who listens where, read from what the kernel prints."""

from __future__ import annotations

import os
from ipaddress import ip_address

import pytest

from spa_server.examine.iptables_rules import saved_chains
from spa_server.examine.listeners import Listener, Process, listeners_in, read_listeners
from spa_server.examine.reading import rule_book
from spa_server.examine.rules import RuleBook
from spa_server.examine.services import service_findings
from spa_server.examine.surroundings import Interface, Surroundings
from spa_server.service import Service
from tests.lab import Host, Lab
from tests.server.examine.firewalls import DOCKER_RULES
from tests.server.examine.site import service

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000     0        0"
WEB = service("web", 8443)
BOTH = Surroundings((Interface("eth0", (ip_address("198.51.100.1"), ip_address("2001:db8::1"))),))
NGINX = Process(7, "nginx")


def test_the_kernels_tables_are_read() -> None:
    text = (
        HEAD + f"   0: 0100007F:20FB 00000000:0000 0A {REST} 4711 1\n   1: 00000000:0016 00000000:0000 01 {REST} 12 1\n"
    )
    found = tuple(listeners_in("tcp", text, {4711: NGINX}))
    assert found == (Listener("tcp", ip_address("127.0.0.1"), 8443, 4711, NGINX),)


@pytest.mark.parametrize("address", ["127.0.0.1", "198.51.100.1", "::", "::1", "2001:db8:1::1"])
def test_a_listening_socket_is_found_with_its_process(module_lab: Lab, address: str) -> None:
    host: Host = module_lab.server
    with host.listen_tcp(8443, address), host.bind_udp(8443, address), host.enter():
        found = [each for each in read_listeners() if each.port == 8443]
    assert [each.protocol for each in found] == ["tcp", "udp"]
    assert all(each.process is not None and each.process.pid == os.getpid() for each in found)
    assert {str(each.address) for each in found} == {address}
    assert found[0].is_inside_only == ip_address(address).is_loopback


def ids(
    listeners: tuple[Listener, ...], *services: Service, book: RuleBook | None = None, around: Surroundings = BOTH
) -> dict[str, str]:
    found = service_findings(book or rule_book(()), around, listeners, services)
    return {each.id: each.what for each in found}


def at(address: str, port: int, process: Process | None = NGINX) -> Listener:
    return Listener("tcp", ip_address(address), port, port, process)


def test_a_service_that_listens_on_all_addresses_is_as_it_should_be() -> None:
    assert list(ids((at("::", 8443),), WEB)) == ["service-listens"]
    assert list(ids((at("0.0.0.0", 8443), at("::", 8443)), WEB)) == ["service-listens"]


def test_loopback_and_nothing_are_told_apart() -> None:
    assert list(ids((), WEB)) == ["service-silent"]
    assert list(ids((at("127.0.0.53", 8443), at("::1", 8443), at("::ffff:127.0.0.1", 8443)), WEB)) == [
        "service-loopback"
    ]


def test_gaps_between_the_ip_versions_are_noted() -> None:
    assert list(ids((at("0.0.0.0", 8443),), WEB)) == ["service-no-ipv6", "service-listens"]
    assert list(ids((at("2001:db8::1", 8443),), WEB)) == ["service-no-ipv4", "service-listens"]
    only_four = Surroundings((Interface("eth0", (ip_address("198.51.100.1"), ip_address("fe80::1"))),))
    assert list(ids((at("0.0.0.0", 8443),), WEB, around=only_four)) == ["service-listens"]


def test_other_ports_of_the_same_program_are_noted_and_only_those() -> None:
    others = (at("::", 9090), at("127.0.0.1", 9091), at("::", 22, Process(8, "sshd")))
    found = ids((at("::", 8443), *others), WEB)
    assert "tcp/9090" in found["service-also-listens"]
    assert list(found) == ["service-listens", "service-also-listens"]
    assert list(ids((at("::", 8443), at("::", 8444)), service("web", 8443, 8444))) == ["service-listens"]


def test_inner_hosts_need_forwarding_and_a_route() -> None:
    wiki = service("wiki", 7443, forward_to="10.9.0.2:443")
    assert list(ids((), wiki)) == ["forwarding-off", "no-route"]
    ready = Surroundings(BOTH.interfaces, frozenset((4,)), {ip_address("10.9.0.2"): "inner0"})
    assert list(ids((), wiki, around=ready)) == []


def test_docker_proxy_relays_around_the_perimeter() -> None:
    def proxy(port: int) -> Listener:
        given = f"-proto tcp -host-ip 0.0.0.0 -host-port {port} -container-ip 172.17.0.2 -container-port 80"
        return at("0.0.0.0", port, Process(port, "docker-proxy", ("/usr/sbin/docker-proxy", *given.split())))

    book = rule_book((), saved_chains(DOCKER_RULES, "iptables"))
    found = ids((proxy(8080), proxy(9443)), service("published", 8080), book=book)
    assert list(found) == ["docker-proxy"]
    assert "tcp/9443 leads to service published (172.17.0.2:80)" in found["docker-proxy"]
