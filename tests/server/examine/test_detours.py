"""Rules of other tables that lead around the perimeter: named, and shut by the command that is printed."""

from __future__ import annotations

import pytest

from spa_server.examine.findings import Severity
from spa_server.service import OnExpiry
from tests.server.examine.site import Site, service

WEB = service("web", 8443)
WIKI = service("wiki", 7443, forward_to="10.9.0.2:443")


def nat(rule: str, priority: int = -100) -> str:
    return f"table inet other {{ chain pre {{ type nat hook prerouting priority {priority};\n{rule}\n}}\n}}\n"


# The kernel calls all of prerouting's destination NAT from one hook, so even -160 comes after our chain at -150.
@pytest.mark.parametrize("priority", [-160, -100, 0])
def test_a_redirect_to_a_protected_port_is_a_danger_at_any_priority(site: Site, priority: int) -> None:
    site.close_up(WEB)
    site.server.nft(nat("tcp dport 9443 redirect to :8443", priority))
    with site.server.listen_tcp(8443):
        assert site.stranger.is_kept_out(site.server.ipv4, 8443)
        assert site.stranger.reaches_tcp(site.server.ipv4, 9443)
        (found,) = site.found("detour")
        assert found.severity is Severity.DANGER
        assert found.remedy.startswith("nft delete rule inet other pre handle ")
        site.mend(found)
        assert site.stranger.is_kept_out(site.server.ipv4, 9443)
        assert site.findings() == ()
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)


def test_iptables_rules_are_taken_out_by_their_own_words(site: Site) -> None:
    site.close_up(WEB)
    rule = "iptables -t nat -A PREROUTING -p tcp --dport 9000:9010 -j REDIRECT --to-ports 8443"
    site.server.run(["sh", "-c", rule])
    with site.server.listen_tcp(8443):
        assert site.stranger.reaches_tcp(site.server.ipv4, 9005)
        (found,) = site.found("detour")
        assert found.remedy == (
            "iptables -t nat -D PREROUTING -p tcp -m tcp --dport 9000:9010 -j REDIRECT --to-ports 8443"
        )
        site.mend(found)
        assert site.stranger.is_kept_out(site.server.ipv4, 9005)


def test_a_second_way_to_the_inner_host_of_a_service(inner_site: Site) -> None:
    site = inner_site
    site.close_up(WIKI)
    site.server.nft(nat("tcp dport 9444 dnat ip to 10.9.0.2:443"))
    with site.lab.inner.listen_tcp(443):
        assert site.stranger.is_kept_out("10.9.0.2", 443)
        assert site.stranger.reaches_tcp(site.server.ipv4, 9444)
        (found,) = site.found("detour")
        assert "tcp/9444 leads to service wiki (10.9.0.2 tcp/443)" in found.what
        site.mend(found)
        assert site.stranger.is_kept_out(site.server.ipv4, 9444)
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport vmap { 9443 : jump lead }",
        "meta l4proto tcp dnat ip to tcp dport map @targets",
        'iifname != "lo" tcp dport { 9443, 9444 } redirect to :8443',
        "redirect to :8443",
    ],
)
def test_leads_are_found_in_every_form(site: Site, rule: str) -> None:
    site.close_up(WEB)
    lead = "meta l4proto tcp redirect to :8443" if "vmap" in rule else ""
    said = f"meta l4proto tcp {rule}" if rule.startswith("redirect") else rule
    site.server.nft(
        "table inet other { map targets { type inet_service : ipv4_addr . inet_service;\n"
        f"elements = {{ 9443 : {site.server.ipv4} . 8443 }}\n}}\nchain lead {{ {lead}\n}}\n"
        f"chain pre {{ type nat hook prerouting priority -100;\n{said}\n}}\n}}\n"
    )
    with site.server.listen_tcp(8443):
        assert site.stranger.reaches_tcp(site.server.ipv4, 9443)
        assert [each.severity for each in site.found("detour")] == [Severity.DANGER]


def test_a_rewritten_port_is_a_detour_only_after_our_chain(site: Site) -> None:
    site.close_up(WEB)
    head = "table inet other { chain pre { type filter hook prerouting priority"
    with site.server.listen_tcp(8443):
        for priority, leads in ((-149, True), (-300, False)):
            site.server.nft(f"{head} {priority};\ntcp dport 9443 notrack tcp dport set 8443\n}}\n}}\n")
            assert bool(site.found("detour")) is leads
            site.server.run(["nft", "delete", "table", "inet", "other"])


def test_rules_that_lead_elsewhere_are_left_alone(inner_site: Site) -> None:
    site = inner_site
    site.close_up(WEB, WIKI)
    site.server.nft(
        nat(
            "tcp dport 80 redirect to :8080\ntcp dport 8444 dnat ip to 10.9.0.2:444\n"
            "udp dport 9443 redirect to :8443\niifname lo tcp dport 9443 redirect to :8443"
        )
    )
    assert site.findings() == ()


def test_nat_before_ours_takes_forward_tos_place(inner_site: Site) -> None:
    site = inner_site
    site.close_up(WIKI)
    site.server.nft(nat("tcp dport 7443 dnat ip to 10.9.0.2:80", -120))
    (found,) = site.found("detour-first")
    with site.lab.inner.listen_tcp(443):
        assert site.alice.is_kept_out(site.server.ipv4, 7443)
        site.mend(found)
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)


def test_ports_out_of_connection_tracking(inner_site: Site) -> None:
    site = inner_site
    keep = service("keep", 8444, on_expiry=OnExpiry.KEEP)
    site.close_up(WEB, keep, WIKI)
    site.server.nft(
        "table inet other { chain raw { type filter hook prerouting priority raw;\n"
        "tcp dport 8443 notrack\ntcp dport 7443 notrack\n}\n}\n"
    )
    found = site.found("untracked")
    assert [each.severity for each in found] == [Severity.NOTE, Severity.WARNING]
    with site.server.listen_tcp(8443), site.lab.inner.listen_tcp(443):
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
        assert site.alice.is_kept_out(site.server.ipv4, 7443)
        site.mend(found[1])
        assert site.alice.reaches_tcp(site.server.ipv4, 7443)
