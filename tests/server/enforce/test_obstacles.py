"""Other tables in the way are named, with the command that lets leased packets through."""

from __future__ import annotations

from ipaddress import ip_address

from spa_server.enforce.obstacles import foreign_obstacles, obstacles_in
from spa_server.service import PortRange, Service
from tests.server.enforce.conftest import KNOCK_PORT, Site, service, target

WEB = Service("web", (PortRange(8443, 8445),), (), frozenset())
WIKI = service("wiki", tcp=(7443,), forward_to=(target("10.9.0.2", 443),))


def obstacles(site: Site, *services: Service) -> tuple[str, ...]:
    with site.server.enter():
        return foreign_obstacles(KNOCK_PORT, services)


def mend(site: Site, sentence: str) -> None:
    """Run the command that a sentence ends with."""
    command = sentence.split(": ", 1)[1]
    site.server.run(["sh", "-c", command])


def test_nothing_is_in_the_way_of_our_own_table(site: Site) -> None:
    assert obstacles(site, WEB, WIKI) == ()
    site.close_up(WEB)
    assert obstacles(site, WEB, WIKI) == ()


def test_a_dropping_input_chain_is_named_and_its_command_mends_it(site: Site) -> None:
    site.server.nft(
        "table inet filter { chain input { type filter hook input priority 0; policy drop;\n"
        "ct state established accept\n}\n}\n"
    )
    site.close_up(WEB)
    (sentence,) = obstacles(site, WEB)
    assert sentence.startswith("chain input of table inet filter drops what it does not name: ")
    assert "nft insert rule inet filter input udp dport 62201 accept" in sentence
    site.let_in(site.alice)
    with site.server.listen_tcp(8443):
        assert not site.alice.reaches_tcp(site.server.ipv4, 8443)
        mend(site, sentence)
        assert obstacles(site, WEB) == ()
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
        assert not site.stranger.reaches_tcp(site.server.ipv4, 8443)


def test_a_chain_that_ends_in_reject_is_one_too(site: Site) -> None:
    site.server.nft(
        "table ip guard { chain in { type filter hook input priority 0;\niif lo accept\ncounter reject\n}\n}\n"
    )
    assert "nft insert rule ip guard in tcp dport 8443-8445 accept" in obstacles(site, WEB)[0]


def test_forwarded_services_need_the_forward_chain(inner_site: Site) -> None:
    site = inner_site
    site.server.nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }\n}\n")
    site.close_up(WIKI)
    (sentence,) = obstacles(site, WIKI, WEB)
    assert sentence.endswith(": iptables -I FORWARD -d 10.9.0.2 -p tcp --dport 443 -j ACCEPT")
    assert obstacles(site, WEB) == ()


def test_own_addresses_among_hosts_are_not_forwarded(site: Site) -> None:
    site.server.nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }\n}\n")
    here = service("here", tcp=(1,), hosts=(site.server.ipv4,))
    there = service("there", tcp=(1,), hosts=(ip_address("10.9.0.2"),))
    assert obstacles(site, here) == ()
    assert "10.9.0.2" in obstacles(site, there)[0]


def test_ufw_and_firewalld_are_spoken_to_in_their_own_words(site: Site) -> None:
    site.server.nft(
        "table ip filter { chain INPUT { type filter hook input priority 0; policy drop; }\n"
        "chain ufw-before-input { }\n}\n"
    )
    (sentence,) = obstacles(site, WEB)
    assert sentence.endswith(": ufw allow 62201/udp && ufw allow 8443:8445/tcp")
    for allowed in ("udp dport 62201", "tcp dport 8443-8445"):
        site.server.run(["nft", "add", "rule", "ip", "filter", "ufw-before-input", *allowed.split(), "accept"])
    assert obstacles(site, WEB) == ()
    site.server.run(["nft", "flush", "ruleset"])
    site.server.nft("table inet firewalld { chain filter_INPUT { type filter hook input priority 10; }\n}\n")
    (sentence,) = obstacles(site, WEB)
    assert "firewall-cmd --permanent --add-port=62201/udp --add-port=8443-8445/tcp" in sentence


def test_flowtables_are_warned_of() -> None:
    # From nft's JSON, because not every kernel that tests run on can make one.
    flowtable = {"family": "inet", "name": "ft", "table": "fast", "handle": 2, "hook": "ingress", "prio": 0}
    (sentence,) = obstacles_in(({"flowtable": flowtable},), KNOCK_PORT, (WEB,))
    assert sentence.endswith("'flow add @ft', see: nft -a list table inet fast")
