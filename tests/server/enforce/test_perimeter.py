"""Putting the perimeter up, again, differently, and down."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_server.enforce import perimeter
from spa_server.enforce.leases import list_leases, open_leases
from spa_server.enforce.ruleset import merged
from spa_server.enforce.tags import arm
from spa_server.service import OnExpiry, PortRange
from tests.server.enforce.conftest import FAMILIES, KNOCK_PORT, Site, service, target

WEB = service("web", tcp=(8443,), udp=(5353,))
SSH = service("ssh", tcp=(22,), on_expiry=OnExpiry.KEEP)


def without_expiry(ruleset: str) -> str:
    return re.sub(r" expires \w+", "", ruleset)


def test_a_second_application_changes_nothing(site: Site) -> None:
    site.close_up(WEB, SSH)
    site.let_in(site.alice, 4)
    site.let_in(site.alice, 6)
    arm(site.nft, [bytes(range(8))], 60_000)
    before = site.ruleset()
    site.close_up(WEB, SSH)
    assert without_expiry(site.ruleset()) == without_expiry(before)
    assert len(list_leases(site.nft)) == 6


def test_leases_tags_and_counters_live_through_an_application(site: Site) -> None:
    site.close_up(WEB)
    with site.server.listen_tcp(8443):
        site.let_in(site.alice, 4)
        arm(site.nft, [b"one-time"], 60_000)
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
        with site.server.enter():
            counted = perimeter.counters().services[0].admitted.packets
        site.close_up(WEB, SSH)
        assert counted > 0
        assert site.alice.reaches_tcp(site.server.ipv4, 8443)
    assert [element.key for element in site.nft.dump("tags")] == [b"one-time"]
    with site.server.enter():
        by_name = {each.name: each for each in perimeter.counters().services}
    assert by_name["web"].admitted.packets > counted
    assert by_name["ssh"].admitted.packets == 0


def test_a_service_taken_out_leaves_neither_chain_nor_counter_nor_lease(site: Site) -> None:
    site.close_up(WEB, SSH)
    site.let_in(site.alice)
    site.close_up(SSH)
    assert {lease.service for lease in list_leases(site.nft)} == {"ssh"}
    assert "web" not in site.ruleset()


def test_a_lease_does_not_open_another_service_that_got_its_port(site: Site) -> None:
    site.close_up(service("web", tcp=(8443,)))
    site.let_in(site.alice)
    site.close_up(service("web", tcp=(9443,)), service("vault", tcp=(8443,)))
    with site.server.listen_tcp(8443):
        assert list_leases(site.nft) == ()
        assert site.alice.is_kept_out(site.server.ipv4, 8443)


def test_a_lease_on_a_host_that_is_taken_out_ends(site: Site) -> None:
    first, second = site.server.ipv4, ip_address("10.9.0.2")
    site.close_up(service("web", tcp=(8443,), hosts=(first, second)))
    site.let_in(site.alice)
    site.close_up(service("web", tcp=(8443,), hosts=(first,)))
    assert [lease.destination for lease in list_leases(site.nft)] == [first]


def test_every_shape_of_service_loads_and_lists_as_itself(inner_site: Site) -> None:
    forwarding = target("10.9.0.2", 443), target("fd00:9::2", 443)
    shapes = (
        service("both", tcp=(80, 81, 83), udp=(80,), on_expiry=OnExpiry.KEEP),
        service("only-udp", udp=(53,)),
        service("inner", tcp=(22,), hosts=(ip_address("10.9.0.2"), ip_address("fd00:9::2"))),
        service("f", tcp=(7443,), udp=(7443,), forward_to=forwarding, masquerade=True),
        service("g", tcp=(6443,), hosts=(inner_site.server.ipv4,), forward_to=forwarding[:1]),
    )
    inner_site.close_up(*shapes)
    first = inner_site.ruleset()
    inner_site.close_up(*shapes)
    assert inner_site.ruleset() == first
    inner_site.close_up()
    assert "service-" not in inner_site.ruleset()
    assert "forward-to" not in inner_site.ruleset()


def test_it_stands_once_put_up_and_not_when_emptied_or_removed(site: Site) -> None:
    with site.server.enter():
        assert not perimeter.standing()
        assert perimeter.show() == ""
        assert perimeter.counters().services == ()
        site.close_up(WEB)
        assert perimeter.standing()
        assert "service-web" in perimeter.show()
        site.server.run(["nft", "flush", "table", "inet", "spa"])
        assert not perimeter.standing()
        site.close_up(WEB)
        assert perimeter.remove()
        assert not perimeter.remove()
        assert not perimeter.standing()


def test_show_prints_only_this_table_and_no_tags(site: Site) -> None:
    site.server.nft("table inet other { chain x { } ; }\n")
    site.close_up(WEB)
    arm(site.nft, [b"one-time"], 60_000)
    with site.server.enter():
        shown = perimeter.show()
    assert shown.startswith("table inet spa {")
    assert shown.endswith("\n}\n")
    assert "other" not in shown
    assert "0x6f6e652d74696d65" not in shown


def test_forwarding_that_is_off_is_warned_of_with_the_command(site: Site) -> None:
    web = service("web", tcp=(443,), forward_to=(target("10.9.0.2", 443), target("fd00:9::2", 443)))
    warnings = site.close_up(web)
    assert [warning.split(": ")[-1] for warning in warnings] == [
        "sysctl -w net.ipv4.ip_forward=1",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ]
    assert site.close_up(WEB) == ()


@pytest.mark.parametrize("version", FAMILIES)
def test_loopback_stays_usable(site: Site, version: int) -> None:
    site.close_up(WEB)
    with site.server.listen_tcp(8443):
        assert site.server.reaches_tcp("127.0.0.1" if version == 4 else "::1", 8443)
        assert site.server.reaches_tcp(site.server.address(version), 8443)
        assert site.alice.is_kept_out(site.server.address(version), 8443)


def test_missing_nft_is_said_with_the_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(perimeter.NftMissing, match=r"^nft is not installed: apt-get install nftables$"):
        perimeter.apply((KNOCK_PORT,), (WEB,))


def test_who_is_not_root_is_told_so(site: Site) -> None:
    code = (
        "import os; from spa_server.enforce import perimeter\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: perimeter.apply((62201,), ())\n"
        "except perimeter.NotPermitted as error: print(error)\n"
    )
    done = site.server.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert "sudo" in done.stdout


def test_a_refused_ruleset_changes_nothing(site: Site) -> None:
    site.close_up(WEB)
    before = site.ruleset()
    with pytest.raises(perimeter.RulesetRefused):
        site.close_up(service("web", tcp=(70000,)))
    assert site.ruleset() == before


def test_a_service_without_address_in_the_family_opens_nothing(site: Site) -> None:
    site.close_up(WEB, service("six", tcp=(6,), hosts=(site.server.ipv6,)))
    with pytest.raises(ValueError, match="service six has no IPv4 address"):
        site.let_in(site.alice, 4)
    assert list_leases(site.nft) == ()
    assert open_leases(site.nft, []) == ()


def test_ranges_are_merged_before_nft_would_refuse_them() -> None:
    ranges = (PortRange(20, 30), PortRange(1, 1), PortRange(25, 40), PortRange(41, 50), PortRange(60, 60))
    assert merged(ranges) == (PortRange(1, 1), PortRange(20, 50), PortRange(60, 60))


def test_the_tests_do_not_touch_the_host() -> None:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    assert "inet spa" not in listed.stdout
