"""Other tables in the way are named, with the command that lets leased packets and their answers through."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from spa_server.examine.findings import Severity
from spa_server.examine.obstacles import foreign_obstacles, obstacles, offloads
from spa_server.examine.reading import rule_book
from spa_server.examine.surroundings import Interface, Surroundings
from spa_server.service import PortRange, Service
from tests.server.examine.site import KNOCK_PORT, Site, service

WEB = Service("web", (PortRange(8443, 8445),), (), frozenset())
WIKI = service("wiki", 7443, forward_to="10.9.0.2:443")


def filter_table(rules: str, hook: str = "input", policy: str = "drop") -> str:
    return f"table inet filter {{ chain c {{ type filter hook {hook} priority 0; policy {policy};\n{rules}\n}}\n}}\n"


def test_nothing_is_in_the_way_of_our_own_table(inner_site: Site) -> None:
    inner_site.close_up(WEB, WIKI)
    assert inner_site.findings() == ()


@pytest.mark.parametrize(
    "table",
    [
        filter_table("ct state established accept"),
        filter_table("iif lo accept\ntcp dport 22 accept\ncounter reject", policy="accept"),
        filter_table("tcp dport 8000-9000 drop\nudp dport 62201 drop", policy="accept"),
        filter_table(
            "ip protocol icmp accept\nmeta l4proto { tcp, udp } jump shut\n}\nchain shut { drop", policy="accept"
        ),
        filter_table("tcp dport vmap { 22 : accept, 8443-8445 : drop }\nudp dport 62201 drop", policy="accept"),
        filter_table("tcp dport 8445 drop\nudp dport 62201 drop", policy="accept", hook="prerouting"),
    ],
)
def test_whatever_drops_is_named_and_its_command_mends_it(site: Site, table: str) -> None:
    site.server.nft(table)
    site.close_up(WEB)
    (found,) = site.found("rules-drop")
    assert found.severity is Severity.WARNING
    assert found.what.startswith("chain c of table inet filter drops knocks (udp/62201), web (tcp/8443-8445)")
    assert "nft insert rule inet filter c udp dport 62201 accept" in found.remedy
    with site.server.listen_tcp(8445):
        assert site.alice.is_kept_out(site.server.ipv4, 8445)
        site.mend(found)
        assert site.findings() == ()
        assert site.alice.reaches_tcp(site.server.ipv4, 8445)
        assert site.stranger.is_kept_out(site.server.ipv4, 8445)


@pytest.mark.parametrize(
    "rules",
    [
        "tcp dport 8000-9000 accept\nudp dport 62201 accept",
        "meta l4proto { tcp, udp } accept",
        "jump open\n}\nchain open { tcp dport { 8443, 8444, 8445 } ct state new accept\nudp dport 62201 accept",
        'iifname "eth0" accept',
        "ip saddr 192.0.2.7 drop\nct state invalid drop\nip protocol icmp drop\nmeta l4proto { tcp, udp } accept",
    ],
)
def test_what_lets_all_of_it_in_is_no_obstacle(site: Site, rules: str) -> None:
    site.server.nft(filter_table(rules))
    site.close_up(WEB)
    assert site.findings() == ()
    with site.server.listen_tcp(8444):
        assert site.alice.reaches_tcp(site.server.ipv4, 8444)


def test_answers_that_are_dropped_are_told_too(site: Site) -> None:
    site.close_up(WEB)
    site.server.nft(filter_table("udp sport 53 accept", hook="output"))
    (found,) = site.found("rules-drop")
    assert found.remedy == "nft insert rule inet filter c ct state established,related accept"
    with site.server.listen_tcp(8443):
        assert site.alice.is_kept_out(site.server.ipv4, 8443)
        site.mend(found)
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)


def test_forwarded_services_need_the_forward_chain_both_ways(inner_site: Site) -> None:
    site = inner_site
    site.close_up(WIKI)
    site.server.run(["sh", "-c", "iptables -P FORWARD DROP"])
    (found,) = site.found("rules-drop")
    assert found.remedy == (
        "iptables -I FORWARD -d 10.9.0.2 -p tcp --dport 443 -j ACCEPT && "
        "iptables -I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )
    with site.lab.inner.listen_tcp(443):
        assert site.alice.is_kept_out(site.server.ipv4, 7443)
        site.mend(found)
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
    site.services = (WEB,)
    assert site.findings() == ()


def test_own_addresses_among_hosts_are_not_forwarded(site: Site) -> None:
    site.server.nft(filter_table("", hook="forward"))
    site.services = (service("here", 1, hosts=(str(site.server.ipv4),)),)
    assert site.findings() == ()
    site.services = (service("there", 1, hosts=("10.9.0.2",)),)
    assert "10.9.0.2" in site.findings()[0].remedy


def test_the_interface_that_is_shut_is_named() -> None:
    chain = {"family": "inet", "table": "t", "name": "c", "hook": "input", "prio": 0, "type": "filter"}
    drop = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth1"}}
    rule = {"family": "inet", "table": "t", "chain": "c", "handle": 1, "expr": [drop, {"drop": None}]}
    around = Surroundings((Interface("eth0", (ip_address("192.0.2.1"),)), Interface("eth1")))
    (found,) = obstacles(rule_book(({"chain": chain}, {"rule": rule})), around, (KNOCK_PORT,), (WEB,))
    assert "from eth1" in found.what


def test_for_the_log_each_is_a_sentence_that_ends_with_the_command(site: Site) -> None:
    site.server.nft(filter_table(""))
    with site.server.enter():
        (said,) = foreign_obstacles((KNOCK_PORT,), (WEB,))
    insert = "nft insert rule inet filter c"
    assert said.endswith(f": {insert} udp dport 62201 accept && {insert} tcp dport 8443-8445 accept")


def test_every_knock_port_has_to_be_open(site: Site) -> None:
    site.server.nft(
        filter_table(f"udp dport {KNOCK_PORT} accept\ntcp dport 8443-8445 accept\nct state established accept")
    )
    with site.server.enter():
        assert foreign_obstacles((KNOCK_PORT,), (WEB,)) == ()
        (said,) = foreign_obstacles((KNOCK_PORT, 443, 53), (WEB,))
    assert "drops knocks (udp/443, udp/53)" in said
    insert = "nft insert rule inet filter c udp dport"
    assert said.endswith(f": {insert} 443 accept && {insert} 53 accept")


def test_flowtables_are_warned_of() -> None:
    # From nft's JSON, because not every kernel that tests run on can make one.
    chain = {"family": "inet", "table": "fast", "name": "c", "hook": "forward", "prio": 0, "type": "filter"}
    flow = {"flow": {"op": "add", "flowtable": "@ft"}}
    rule = {"family": "inet", "table": "fast", "chain": "c", "handle": 7, "expr": [flow]}
    (found,) = offloads(rule_book(({"chain": chain}, {"rule": rule})), (WIKI,))
    assert (found.severity, found.remedy) == (Severity.WARNING, "nft delete rule inet fast c handle 7")
