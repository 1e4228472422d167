"""From a minimal Debian to a closed one at its next boot, and back to what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.end_to_end.running import wait_until
from tests.lab import Lab
from tests.systemd.machine import Machine
from tests.systemd.probing import Prober
from tests.systemd.service import CONFIG, KEEPER, OPEN_PORT, PORT, SERVER, Knocker, Service
from tests.systemd.talking import listening

NETWORK = """
[Match]
Name=eth0
[Network]
Address={ipv4}/24
Address={ipv6}/64
IPv6AcceptRA=no
IPv6DuplicateAddressDetection=0
"""
# All of the file system but what a running system writes by itself.
_LIST = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /var/log \
    -o -path /var/tmp -o -path /var/lib/systemd -o -path /var/cache -o -name __pycache__ \
    -o -path '/etc/.pwd.lock' -o -path '/etc/*-' \) \
    -prune -o -printf '%p %y %m %U %G %l\n' | sort
find /run/spa /run/credentials -path '*spa*' 2>/dev/null
find /etc -xdev -type f ! -path '/etc/*-' -exec sha256sum {} + | sort
systemctl list-unit-files --no-legend
"""


@pytest.fixture
def fresh(fresh_machine: Machine, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A machine on which the program is, and nothing has been installed."""
    return Service(lab, fresh_machine, tmp_path_factory.mktemp("clients"))


def test_a_dry_run_changes_nothing(fresh: Service) -> None:
    before = snapshot(fresh)
    lines = fresh.install("--dry-run")
    assert any(line.startswith("would") for line in lines)
    assert not any(line.startswith("done") for line in lines)
    assert snapshot(fresh) == before


def test_a_second_run_finds_all_of_it_done(fresh: Service) -> None:
    first, pids = fresh.install(), fresh.pids()
    assert any(line.startswith("done") for line in first)
    assert all(pids.values()) or all(fresh.pids().values())
    pids = fresh.pids()
    again = [line for line in fresh.install() if not line.startswith("next")]
    assert [line for line in again if not line.startswith("unchanged")] == []
    assert fresh.pids() == pids


def test_what_goes_through_is_counted_from_the_start_on(fresh: Service) -> None:
    """The keeper may not write there itself; its unit does it once connection tracking is there."""
    fresh.install()
    fresh.wait_until_it_serves()
    assert fresh.machine.run("cat", "/proc/sys/net/netfilter/nf_conntrack_acct").stdout.strip() == "1"


def test_a_low_knock_port_is_bound_and_the_capability_given_up(fresh: Service) -> None:
    fresh.install("--no-start")
    fresh.configure(knock_port=443, more_knock_ports=[62201])
    fresh.install()
    fresh.wait_until_it_serves()
    fresh.configure(knock_port=443, more_knock_ports=[53])
    assert "Run spa-server install again" in fresh.command("reload", check=False).stderr
    fresh.install()
    fresh.wait_until_it_serves()
    bound = fresh.machine.run("cat", "/proc/net/udp6").stdout
    assert all(f":{port:04X} " in bound for port in (443, 53))
    print(fresh.log())
    status = fresh.machine.read(f"/proc/{fresh.machine.main_pid(SERVER)}/status")
    assert "CapEff:\t0000000000000000" in status
    assert "CapPrm:\t0000000000000000" in status
    fresh.configure()
    fresh.install()
    assert fresh.machine.unit(SERVER, "PrivateUsers")["PrivateUsers"] == "yes"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda machine: machine.run("cp", "-r", "/opt/spa", "/root/spa"), "does not see"),
        (lambda machine: machine.run("chmod", "o+w", "/opt/spa/bin"), "can be changed by others"),
    ],
)
def test_a_program_that_the_units_could_not_use_is_refused(
    fresh: Service, spoil: Callable[[Machine], object], said: str
) -> None:
    before = snapshot(fresh, etc_only=True)
    spoil(fresh.machine)
    program = "/root/spa/bin/spa-server" if "see" in said else "/opt/spa/bin/spa-server"
    done = fresh.command("install", "--program", program, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done
    assert said in done.stderr
    assert snapshot(fresh, etc_only=True) == before


@pytest.mark.timeout(300)
def test_after_a_boot_the_ports_are_closed_before_the_network_is_up(fresh: Service, lab: Lab) -> None:
    stranger, machine = lab.clients["stranger"], fresh.machine
    with listening(lab.server, PORT, OPEN_PORT):
        assert stranger.reaches_tcp(lab.server.ipv4, PORT), "it was never open"
        fresh.install()
        fresh.configure(max_skew_s=5)
        fresh.command("reload")
        alice = fresh.enrolled(lab.clients["alice"], "alice-laptop")
        let_the_machine_configure_its_network(fresh)
        with Prober(stranger, lab.server, PORT, OPEN_PORT) as prober:
            machine.boot()
            wait_until(lambda: stranger.reaches_tcp(lab.server.ipv4, OPEN_PORT), "the network")
            fresh.wait_until_it_serves()
        # What was used before the boot may be forgotten, so the first minute to open is one that began after it.
        with Knocker(alice, lab.server, between_s=2) as knocker:
            knocker.knock_until_granted(patience_s=120)
        assert alice.host.reaches_tcp(lab.server.ipv4, PORT)
    closed_us = active_us(machine, KEEPER)
    order = {unit: active_us(machine, unit) for unit in ("network-pre.target", "systemd-networkd.service", SERVER)}
    told = ", ".join(f"{unit} +{(us - closed_us) / 1000:.0f} ms" for unit, us in order.items())
    print(f"\nclosed, then {told}; through the boot: {prober.seen}")
    assert all(us >= closed_us for us in order.values())
    assert prober.seen.answered == 0, prober.seen.first_answer
    assert prober.seen.control > 0


@pytest.mark.timeout(300)
def test_a_boot_with_a_broken_program_is_closed_too_and_mending_it_is_all_it_takes(fresh: Service, lab: Lab) -> None:
    """As after an upgrade of the system that took the interpreter away: nft alone closes the ports, in time."""
    stranger, machine = lab.clients["stranger"], fresh.machine
    with listening(lab.server, PORT, OPEN_PORT):
        fresh.install()
        machine.run("mv", "/opt/spa", "/opt/away")
        let_the_machine_configure_its_network(fresh)
        with Prober(stranger, lab.server, PORT, OPEN_PORT) as prober:
            machine.boot(wait=False)
            wait_until(lambda: stranger.reaches_tcp(lab.server.ipv4, OPEN_PORT), "the network")
            assert "table inet spa-hold" in lab.server.run(["nft", "list", "tables"]).stdout
            machine.run("mv", "/opt/away", "/opt/spa")
            fresh.wait_until_it_serves()
        assert "spa-hold" not in lab.server.run(["nft", "list", "tables"]).stdout
    print(f"\nthrough a boot without the program: {prober.seen}")
    assert prober.seen.answered == 0, prober.seen.first_answer
    assert prober.seen.control > 0


@pytest.mark.parametrize("options", [("--purge",), ("--keep-state",), ()], ids=["purge", "keep", "not-asked"])
def test_uninstalling_leaves_the_host_as_it_was(fresh: Service, options: tuple[str, ...]) -> None:
    before = snapshot(fresh)
    fresh.install()
    identity = fresh.machine.run("sha256sum", "/etc/spa/server.key", CONFIG).stdout
    fresh.command("uninstall", "--yes", *options)
    if "--purge" not in options:
        kept = fresh.machine.run(
            "find", "/etc/spa", "/var/lib/spa", "(", "!", "-user", "root", "-o", "!", "-group", "root", ")"
        ).stdout
        assert kept == "", "what is kept belongs to a user or a group that is gone"
        assert fresh.machine.run("sha256sum", "/etc/spa/server.key", CONFIG).stdout == identity
        fresh.install()
        fresh.wait_until_it_serves()
        fresh.command("uninstall", "--yes", "--purge")
    assert snapshot(fresh) == before
    assert all(line.startswith("unchanged") for line in fresh.command("uninstall", "--yes").stdout.splitlines())


def let_the_machine_configure_its_network(service: Service) -> None:
    """Power it off, with networkd to do at the next boot what the lab has done until now."""
    service.machine.write(
        "/etc/systemd/network/eth0.network", NETWORK.format(ipv4=service.host.ipv4, ipv6=service.host.ipv6)
    )
    service.machine.run("systemctl", "enable", "systemd-networkd")
    service.machine.power_off()
    # A namespace outlives its machine, unlike the memory of a host.
    service.host.nft("flush ruleset\n")
    assert service.host.run(["nft", "list", "ruleset"]).stdout == ""
    for family in ("-4", "-6"):
        service.host.run(["ip", family, "address", "flush", "dev", "eth0"])
    service.host.run(["ip", "link", "set", "eth0", "down"])


def active_us(machine: Machine, unit: str) -> int:
    """When a unit became active, on the monotonic clock."""
    return int(machine.unit(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"])


def snapshot(service: Service, *, etc_only: bool = False) -> list[str]:
    """All files, unit states, users and rules of the machine, one a line."""
    script = "find /etc -xdev | sort" if etc_only else _LIST
    files = service.machine.run("sh", "-c", script, check=False).stdout
    return [*files.splitlines(), *service.host.run(["nft", "list", "ruleset"]).stdout.splitlines()]
