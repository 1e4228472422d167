"""What nft and iptables write is read as what it does."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from spa_server.examine.iptables_rules import saved_chains
from spa_server.examine.nft_rules import nft_chains, rule_texts
from spa_server.examine.reading import rule_book
from spa_server.examine.rules import About, Lead, Match, Packet, Rule, Verdict
from spa_server.service import PortRange
from tests.lab import Host, Lab

HTTPS = PortRange(8443, 8443)


def from_iptables(line: str, table: str = "filter", program: str = "iptables") -> Rule:
    (chain, *_) = saved_chains(f"*{table}\n:INPUT DROP [0:0]\n-A INPUT {line}\nCOMMIT\n", program)
    return chain.rules[0]


@pytest.mark.parametrize(
    ("line", "matches", "verdict"),
    [
        (
            "-p tcp -m tcp --dport 8443 -j DROP",
            (Match(About.PROTOCOL, ("tcp",)), Match(About.PORT, (HTTPS,))),
            Verdict.DROP,
        ),
        ("! -i eth+ -j ACCEPT", (Match(About.INTERFACE, ("eth*",), negated=True),), Verdict.ACCEPT),
        (
            "-m multiport --dports 80,8000:8010 -j RETURN",
            (Match(About.PORT, (PortRange(80, 80), PortRange(8000, 8010))),),
            Verdict.RETURN,
        ),
        ("-d 10.0.0.0/8 -g other", (Match(About.DESTINATION, (ip_network("10.0.0.0/8"),)),), Verdict.GOTO),
        ("-s 192.0.2.0/24 -j other", (Match(About.SOURCE, (ip_network("192.0.2.0/24"),)),), Verdict.JUMP),
        (
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            (Match(About.STATE, ("related", "established")),),
            Verdict.ACCEPT,
        ),
        ("-m addrtype --dst-type LOCAL -j RETURN", (Match(About.DESTINATION_TYPE, ("local",)),), Verdict.RETURN),
        ('-m comment --comment "not -j ACCEPT" -j REJECT --reject-with tcp-reset', (), Verdict.DROP),
        ("-m limit --limit 3/min -j LOG --log-prefix x", (Match(About.OTHER), Match(About.OTHER)), Verdict.GO_ON),
    ],
)
def test_a_line_of_iptables_save(line: str, matches: tuple[Match, ...], verdict: Verdict) -> None:
    rule = from_iptables(line)
    assert (rule.matches, rule.verdict) == (matches, verdict)
    assert rule.delete == f"iptables -D INPUT {line}"


@pytest.mark.parametrize(
    ("target", "lead"),
    [
        ("REDIRECT --to-ports 8443", Lead(ports=HTTPS)),
        ("REDIRECT", Lead()),
        ("DNAT --to-destination 172.17.0.2:80", Lead(ip_address("172.17.0.2"), PortRange(80, 80))),
        ("DNAT --to-destination 172.17.0.2", Lead(ip_address("172.17.0.2"))),
        ("DNAT --to-destination [fd00::2]:80-81", Lead(ip_address("fd00::2"), PortRange(80, 81))),
        ("DNAT --to-destination fd00::2", Lead(ip_address("fd00::2"))),
        ("DNAT --to-destination :8443", Lead(ports=HTTPS)),
        ("DNAT --to-destination 10.0.0.1-10.0.0.9:80", Lead(ip_address("10.0.0.1"), PortRange(80, 80), known=False)),
        ("TPROXY --on-port 8443 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1", Lead(ports=HTTPS)),
        ("NETMAP --to 10.0.0.0/8", Lead(known=False)),
    ],
)
def test_where_an_iptables_target_leads(target: str, lead: Lead) -> None:
    assert from_iptables(f"-p tcp -j {target}", "nat").lead == lead


def test_untracked_is_said_in_two_ways() -> None:
    assert from_iptables("-p tcp -j NOTRACK", "raw").untracked
    assert from_iptables("-p tcp -j CT --notrack", "raw").untracked
    assert not from_iptables("-p tcp -j CT --helper ftp", "raw").untracked


def nft_rule(host: Host, rule: str) -> Rule:
    """The first rule that nft makes of a text."""
    host.nft(f"table inet t {{ chain other {{ }}\nchain c {{ type filter hook input priority 0;\n{rule}\n}}\n}}\n")
    listed = json.loads(host.run(["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
    texts = rule_texts(host.run(["nft", "-a", "list", "ruleset"]).stdout)
    host.run(["nft", "delete", "table", "inet", "t"])
    return next(chain for chain in nft_chains(listed, texts) if chain.name == "c").rules[0]


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("tcp dport 8443 drop", True),
        ("tcp dport != 8443 drop", False),
        ("udp dport 8443 drop", False),
        ("tcp dport { 1-100, 8000-9000 } drop", True),
        ("meta l4proto { tcp, udp } th dport 8443 drop", True),
        ("tcp sport 8443 drop", None),
        ("ip saddr 192.0.2.1 tcp dport 8443 drop", None),
        ("ip saddr 192.0.2.1 tcp dport 8444 drop", False),
        ("ip6 saddr ::1 drop", False),
        ("meta nfproto ipv6 drop", False),
        ('iifname "eth*" drop', True),
        ('iifname { "eth0", "eth1" } drop', True),
        ('iifname != "eth0" drop', False),
        ("ct state new drop", True),
        ("ct state established,related drop", False),
        ("ct state != established drop", True),
        ("fib daddr type local drop", True),
        ("fib daddr type { broadcast, multicast } drop", False),
        ("ip daddr 198.51.100.1 drop", None),
        ("tcp dport 8443 limit rate over 1/second drop", None),
    ],
)
def test_which_packets_a_rule_of_nft_is_about(module_lab: Lab, rule: str, holds: bool | None) -> None:
    read = nft_rule(module_lab.server, rule)
    assert read.holds(Packet(4, "tcp", 8443, "eth0")) is holds
    assert read.verdict is Verdict.DROP


def test_a_rule_is_shown_as_nft_writes_it(module_lab: Lab) -> None:
    rule = nft_rule(module_lab.server, "tcp dport 8443 counter jump other")
    assert rule.text == "inet t c: tcp dport 8443 counter packets 0 bytes 0 jump other"
    assert (rule.verdict, rule.target) == (Verdict.JUMP, "other")
    assert rule.delete.startswith("nft delete rule inet t c handle ")


def test_tables_that_iptables_wrote_are_not_guessed_at() -> None:
    chain = {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "prio": 0, "policy": "drop"}
    hidden = {"family": "ip", "table": "filter", "chain": "INPUT", "handle": 2}
    expression = [{"xt": {"type": "match", "name": "multiport"}}, {"accept": None}]
    items = ({"chain": chain}, {"rule": {**hidden, "expr": expression}})
    book = rule_book(items)
    assert (book.chains, book.unseen) == ((), ("ip filter",))
    accept = "-A INPUT -p tcp -m multiport --dports 1,8443 -j ACCEPT"
    saved = saved_chains(f"*filter\n:INPUT DROP [0:0]\n{accept}\nCOMMIT\n", "iptables")
    book = rule_book(items, saved)
    assert (book.chains, book.unseen) == (saved, ())
