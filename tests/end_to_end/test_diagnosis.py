"""What a laptop can find out about the way to its server: `doctor`, `knock --explain`, and a knock's own words."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.end_to_end.running import KNOCK_PORT, SCRIPTS, Laptop, RunningServer
from tests.lab import Lab, LabError, check_surroundings
from tests.stalls import promptly

REFUSED, FAULT, WRONG = 3, 7, 8
TIMEOUT_S = 10


@pytest.fixture
def listening(lab: Lab) -> Iterator[None]:
    """The service behind the door."""
    with lab.server.listen_tcp(8443):
        yield


@pytest.fixture
def faketime() -> None:
    """Fail where the program that shifts one process's clock is missing."""
    try:
        check_surroundings({"faketime": "faketime"})
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


def shifted(laptop: Laptop, by_s: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `spa-client` with a clock that is off; how long things take is left alone."""
    words = ["faketime", "--exclude-monotonic", "-f", f"{by_s:+d}s", str(SCRIPTS / "spa-client"), *argv]
    done = laptop.host.run(words, check=False, env=laptop.env)
    laptop.settle()
    return done


def findings(done: subprocess.CompletedProcess[str], code: int) -> dict[str, dict[str, str]]:
    """What a doctor found, by the findings' ids."""
    assert done.returncode == code, done.stdout + done.stderr
    return {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}


def examined(laptop: Laptop, code: int, *, timeout_s: float = 5) -> dict[str, dict[str, str]]:
    """What the doctor finds on that laptop."""
    return findings(laptop.client("doctor", "office", "--json", "--timeout", f"{timeout_s:g}"), code)


def test_where_all_is_well_the_doctor_says_so(alice: Laptop, listening: None) -> None:
    found = examined(alice, 0)
    assert {"files", "ipv4", "ipv6", "granted", "clock", "service"} <= set(found)


@pytest.mark.parametrize(("broken", "good"), [(4, 6), (6, 4)])
def test_a_family_that_is_black_holed(alice: Laptop, listening: None, lab: Lab, broken: int, good: int) -> None:
    """Nothing of it arrives, and nothing says so: the knock opens by the other, and the doctor says which it is."""
    family = {4: "ip", 6: "ip6"}[broken]
    rule = f"type filter hook prerouting priority -350; {family} daddr {lab.server.address(broken)} drop;"
    lab.server.nft(f"table {family} hole {{ chain in {{ {rule} }}\n}}")
    opened = promptly(lambda: alice.client("knock", "office", "--timeout", f"{TIMEOUT_S}"), TIMEOUT_S)
    assert opened.returncode == 0
    assert f"at {lab.server.address(good)} for " in opened.stdout
    found = examined(alice, WRONG)
    assert found[f"ipv{broken}-silent"]["severity"] == "warning"
    assert found[f"ipv{broken}-silent"]["remedy"].startswith(f"connect to {lab.server.address(good)} ")
    assert found[f"ipv{good}"]["severity"] == "ok"
    assert found["service"]["evidence"] == f"tcp/8443 at {lab.server.address(good)}"


@pytest.mark.parametrize(("off_s", "words"), [(-45, "behind"), (45, "ahead of")])
def test_a_clock_that_is_off_by_45_seconds_works_with_a_warning(
    faketime: None, alice: Laptop, listening: None, off_s: int, words: str
) -> None:
    opened = shifted(alice, off_s, "knock", "office", "--timeout", f"{TIMEOUT_S}")
    assert opened.returncode == 0, opened.stderr
    warning = rf"spa-client: warning: this computer's clock is 4\d s {words} the server's; set it \(.+\) before "
    assert re.search(warning, opened.stderr), opened.stderr
    found = findings(shifted(alice, off_s, "doctor", "office", "--json"), WRONG)
    assert found["clock-off"]["severity"] == "warning"
    assert "granted" in found


@pytest.mark.parametrize(("off_s", "words"), [(-600, "behind"), (600, "ahead of")])
def test_a_clock_that_is_off_by_ten_minutes_is_refused_with_the_difference(
    faketime: None, alice: Laptop, off_s: int, words: str
) -> None:
    line = shifted(alice, off_s, "knock", "office", "--timeout", f"{TIMEOUT_S}")
    assert line.returncode == REFUSED, line.stderr
    told = re.fullmatch(rf"spa-client: this computer's clock is (\d+) s {words} the server's; set it .+\n", line.stderr)
    assert told, line.stderr
    assert abs(int(told[1]) - 600) <= 10, "seconds may pass on the way"
    found = findings(shifted(alice, off_s, "doctor", "office", "--json", "--timeout", f"{TIMEOUT_S}"), WRONG)
    assert re.search(rf"clock is \d+ s {words}", found["clock-wrong"]["what"])
    assert found["clock-wrong"]["severity"] == "fault"


def test_a_network_that_lets_no_udp_out(alice: Laptop, lab: Lab) -> None:
    rule = f"type filter hook prerouting priority -350; udp dport {KNOCK_PORT} drop;"
    lab.server.nft(f"table inet hole {{ chain in {{ {rule} }}\n}}")
    found = examined(alice, WRONG, timeout_s=1)
    assert found["no-answer"]["severity"] == "fault"
    assert "udp/62201" in found["no-answer"]["evidence"]


def test_a_laptop_whose_own_firewall_lets_no_knock_out(alice: Laptop, lab: Lab) -> None:
    rule = f"type filter hook output priority 0; udp dport {KNOCK_PORT} drop;"
    alice.host.nft(f"table inet own {{ chain out {{ {rule} }}\n}}")
    found = examined(alice, WRONG, timeout_s=1)
    assert found["cannot-send"]["remedy"] == "look at the firewall of this computer"


def test_translation_of_knocks_alone_keeps_connections_out(alice: Laptop, listening: None) -> None:
    """It opens for the address that the server sees; the connection comes from another."""
    _translate(alice, "snat to 198.51.100.98")
    found = examined(alice, WRONG, timeout_s=2)
    assert found["ipv4-nat"]["evidence"] == "this computer is 198.51.100.11; the server saw 198.51.100.98"
    assert "it is open for 198.51.100.98, and connections probably leave" in found["service-silent"]["what"]
    assert found["service-silent"]["evidence"].startswith("tcp/8443 at 198.51.100.1 ")
    assert found["service"]["evidence"] == "tcp/8443 at 2001:db8:1::1", "the other family is not translated"


def test_a_carrier_that_changes_the_address_at_every_turn(alice: Laptop, listening: None) -> None:
    _translate(alice, "snat to numgen inc mod 2 map { 0 : 198.51.100.98, 1 : 198.51.100.99 }")
    found = examined(alice, WRONG, timeout_s=2)
    assert found["ipv4-nat-changing"]["severity"] == "warning"


def test_connections_that_are_routed_another_way_than_knocks(alice: Laptop, listening: None) -> None:
    """As by a VPN that takes TCP only."""
    alice.host.run(["ip", "addr", "add", "198.51.100.98/24", "dev", "eth0"])
    alice.host.run(["ip", "route", "add", "198.51.100.0/24", "dev", "eth0", "src", "198.51.100.98", "table", "100"])
    alice.host.run(["ip", "rule", "add", "ipproto", "tcp", "lookup", "100"])
    found = examined(alice, WRONG, timeout_s=2)
    assert found["other-way"]["evidence"] == "knocks from 198.51.100.11, connections from 198.51.100.98"


def _translate(alice: Laptop, statement: str) -> None:
    """Address translation between the laptop and the server, for knocks only."""
    for address in ("198.51.100.98", "198.51.100.99"):
        alice.host.run(["ip", "addr", "add", f"{address}/24", "dev", "eth0"])
    rule = f"type nat hook postrouting priority srcnat; udp dport {KNOCK_PORT} {statement};"
    alice.host.nft(f"table ip carrier {{ chain post {{ {rule} }}\n}}")


def test_a_server_with_ipv6_alone_from_a_network_without(alice: Laptop) -> None:
    path = alice.folder / "office" / "perimeter.toml"
    path.write_text(path.read_text().replace('["198.51.100.1", "2001:db8:1::1"]', '["2001:db8:1::1"]'))
    alice.host.run(["ip", "-6", "addr", "flush", "dev", "eth0"])
    done = alice.client("knock", "office")
    assert done.returncode == FAULT
    assert done.stderr == (
        "spa-client: no network that leads to 2001:db8:1::1: Network is unreachable; the server has an IPv6 address"
        " only: connect to a network that has IPv6\n"
    )
    assert examined(alice, WRONG)["ipv6-no-route"]["severity"] == "fault"


def test_a_knock_explains_itself(alice: Laptop, listening: None) -> None:
    done = alice.client("knock", "office", "web", "--explain", "--json", check=True)
    steps = [step["step"] for step in json.loads(done.stdout)["steps"]]
    assert steps[:3] == ["begun", "read", "resolved"]
    assert {"signed", "sent", "answer", "opened", "accepted"} <= set(steps)


def test_the_servers_last_refusal_is_remembered(server: RunningServer, alice: Laptop, listening: None) -> None:
    server.command("device", "disable", "alice-laptop")
    assert alice.client("knock", "office").returncode == REFUSED
    assert "the device is disabled" in examined(alice, WRONG)["refused"]["what"]
    server.command("device", "enable", "alice-laptop")
    found = examined(alice, 0)
    assert "the device is disabled" in found["last-refusal"]["what"]
