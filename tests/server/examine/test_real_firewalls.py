"""Beside real firewalls: a leased connection fails until the printed command was run, and a stranger's always does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.examine.firewalls import Debian, docker_rules, libvirt_rules
from tests.server.examine.site import Site, service
from tests.systemd.machine import MachineError, debian_tree

WEB = service("web", 8443)
WIKI = service("wiki", 7443, forward_to="10.9.0.2:443")
PUBLISHED = service("published", 8080)


@pytest.fixture
def tree() -> Path:
    try:
        return debian_tree()
    except MachineError as error:
        pytest.fail(str(error), pytrace=False)


@contextlib.contextmanager
def debian(site: Site, tmp_path: Path, tree: Path) -> Iterator[Debian]:
    with Debian(site.server, tmp_path, tree) as made:
        yield made


def test_the_command_for_ufw_lets_the_lease_through_and_nobody_else(site: Site, tmp_path: Path, tree: Path) -> None:
    site.close_up(WEB)
    with debian(site, tmp_path, tree) as beside, site.server.listen_tcp(8443):
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
        beside.start_ufw()
        assert site.alice.is_kept_out(site.server.ipv4, 8443)
        assert site.alice.is_kept_out(site.server.ipv6, 8443)
        (found,) = site.found("rules-drop")
        assert found.remedy == "ufw allow 62201/udp && ufw allow 8443/tcp"
        beside.run(found.remedy)
        assert site.serious() == []
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
        assert site.alice.reaches_tcp(site.server.ipv6, 8443)
        assert site.stranger.is_kept_out(site.server.ipv4, 8443)


def test_the_command_for_a_routed_service_behind_ufw(inner_site: Site, tmp_path: Path, tree: Path) -> None:
    site = inner_site
    site.close_up(WIKI)
    with debian(site, tmp_path, tree) as beside, site.lab.inner.listen_tcp(443):
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        beside.start_ufw()
        assert site.alice.is_kept_out(site.server.ipv4, 7443)
        for each in site.found("rules-drop"):
            beside.run(each.remedy)
        assert site.serious() == []
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        assert site.stranger.is_kept_out(site.server.ipv4, 7443)


def test_the_command_for_firewalld_lets_the_lease_through_and_nobody_else(
    inner_site: Site, tmp_path: Path, tree: Path
) -> None:
    site = inner_site
    site.close_up(WEB, WIKI)
    with debian(site, tmp_path, tree) as beside, site.server.listen_tcp(8443), site.lab.inner.listen_tcp(443):
        beside.start_firewalld()
        assert not site.alice.reaches_tcp(site.server.ipv4, 8443, timeout=0.3)
        # firewalld lets all pass whose destination was translated, so the forwarded service needs nothing.
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        (found,) = site.found("rules-drop")
        assert found.remedy == (
            "firewall-cmd --permanent --zone=public --add-port=62201/udp --add-port=8443/tcp && firewall-cmd --reload"
        )
        beside.run(found.remedy)
        assert site.serious() == []
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
        assert site.alice.reaches_tcp(site.server.ipv6, 8443)
        assert site.stranger.is_kept_out(site.server.ipv4, 8443)


def test_a_port_that_firewalld_forwards_to_a_protected_one_is_taken_back(
    inner_site: Site, tmp_path: Path, tree: Path
) -> None:
    site = inner_site
    site.close_up(WEB, WIKI)
    with debian(site, tmp_path, tree) as beside, site.server.listen_tcp(8443), site.lab.inner.listen_tcp(443):
        beside.start_firewalld()
        beside.run(
            "firewall-cmd --permanent --add-forward-port=port=9443:proto=tcp:toport=8443 "
            "--add-forward-port=port=9444:proto=tcp:toport=443:toaddr=10.9.0.2 && firewall-cmd --reload"
        )
        for port in (9443, 9444):
            assert site.stranger.reaches_tcp(site.server.ipv4, port)
        commands = dict.fromkeys(each.remedy for each in site.found("detour"))
        assert all(command.startswith("firewall-cmd --permanent --zone=public --remove-for") for command in commands)
        for command in commands:
            beside.run(command)
        assert site.found("detour") == []
        for port in (9443, 9444):
            assert site.stranger.is_kept_out(site.server.ipv4, port)


def test_docker_drops_what_is_forwarded_to_others_until_the_command_is_run(inner_site: Site) -> None:
    site = inner_site
    site.close_up(WIKI)
    with site.lab.inner.listen_tcp(443):
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        # The container's bridge is another than the one behind which the inner host is.
        site.server.run(["iptables-restore"], input=docker_rules("docker0", "172.17.0.2", "172.17.0.0/16"))
        assert site.alice.is_kept_out(site.server.ipv4, 7443)
        (found,) = site.found("rules-drop")
        assert found.remedy == (
            "iptables -I FORWARD -d 10.9.0.2 -p tcp --dport 443 -j ACCEPT && "
            "iptables -I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        )
        site.mend(found)
        assert site.found("rules-drop") == []
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        assert site.stranger.is_kept_out(site.server.ipv4, 7443)


def test_libvirt_refuses_what_is_forwarded_to_its_guests_until_the_command_is_run(inner_site: Site) -> None:
    site = inner_site
    site.close_up(WIKI)
    with site.lab.inner.listen_tcp(443):
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        site.server.run(["iptables-restore"], input=libvirt_rules("inner0", "10.9.0.0/24"))
        assert site.alice.is_kept_out(site.server.ipv4, 7443)
        (found,) = site.found("rules-drop")
        assert found.remedy == "iptables -I FORWARD -d 10.9.0.2 -p tcp --dport 443 -j ACCEPT"
        site.mend(found)
        assert site.findings() == ()
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
        assert site.stranger.is_kept_out(site.server.ipv4, 7443)


def test_a_container_that_is_published_twice_is_reached_around_its_protected_port(inner_site: Site) -> None:
    site = inner_site
    site.close_up(PUBLISHED)
    site.server.run(["iptables-restore"], input=docker_rules("inner0", "10.9.0.2", "10.9.0.0/24"))
    with site.lab.inner.listen_tcp(80):
        assert site.alice.reaches_tcp(site.server.ipv4, 8080)
        assert site.stranger.is_kept_out(site.server.ipv4, 8080)
        assert site.stranger.reaches_tcp(site.server.ipv4, 9443)
        (detour,) = site.found("detour")
        assert "tcp/9443 leads to service published" in detour.what
        site.mend(detour)
        assert site.found("detour") == []
        assert site.stranger.is_kept_out(site.server.ipv4, 9443)

        # A neighbour needs no published port when it routes to the container's own address.
        assert site.stranger.reaches_tcp("10.9.0.2", 80)
        (direct,) = site.found("direct-route")
        site.mend(direct)
        assert site.stranger.is_kept_out("10.9.0.2", 80)
        assert site.findings() == ()
        assert site.alice.reaches_tcp(site.server.ipv4, 8080)
