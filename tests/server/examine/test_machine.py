"""The machine, the files, the units and the names: what is judged how."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_server.examine.findings import Finding, Severity, worst, worst_first
from spa_server.examine.listeners import Listener, Process
from spa_server.examine.machine import (
    Clock,
    clock_findings,
    counting_findings,
    ipvs_findings,
    past_nftables,
    read_clock,
    virtual_services,
)
from spa_server.examine.permissions import PathState, config_findings, key_findings, socket_findings, state_findings
from spa_server.examine.running import (
    is_as_shipped,
    keeper_findings,
    knock_port_findings,
    name_findings,
    program_in,
    server_findings,
    tcp_findings,
    unit_findings,
)
from spa_server.examine.standing import lease_findings, ownership_findings
from spa_server.examine.surroundings import Interface, Surroundings, interfaces_in
from spa_server.install.layout import unit_files
from tests.lab import Lab
from tests.server.examine.site import service

V4, V6 = ip_address("0.0.0.0"), ip_address("::")
BOTH = Surroundings((Interface("eth0", (ip_address("198.51.100.1"), ip_address("2001:db8::1"))),))
FILE, FOLDER = 0o100000, 0o040000
CONFIG = Path("/etc/spa/server.toml")


def ids(found: Iterable[Finding]) -> list[str]:
    return [each.id for each in found]


def test_the_worst_comes_first_and_once() -> None:
    note, danger = Finding("a", Severity.NOTE, "a"), Finding("b", Severity.DANGER, "b")
    assert worst_first((note, danger, note)) == (danger, note)
    assert worst((note, danger)) is Severity.DANGER
    assert worst(()) is Severity.OK


@pytest.mark.parametrize(
    ("clock", "id"),
    [
        (None, "clock-unseen"),
        (Clock(synchronised=False, most_error_ms=16000), "clock-unsynchronised"),
        (Clock(synchronised=True, most_error_ms=45000), "clock-loose"),
        (Clock(synchronised=True, most_error_ms=12), "clock"),
    ],
)
def test_a_clock_that_nothing_keeps_is_told(clock: Clock | None, id: str) -> None:
    assert ids(clock_findings(clock, 60)) == [id]


def test_the_kernel_answers_how_its_clock_is_kept() -> None:
    clock = read_clock()
    assert clock is not None
    assert clock.most_error_ms >= 0


def test_real_servers_of_ipvs_are_ways_around() -> None:
    text = (
        "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
        "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        "TCP  C6336401:24E3 rr \n  -> 0A090002:01BB      Masq    1      0          0\n"
        "TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr \n"
        "  -> [fd00:0009:0000:0000:0000:0000:0000:0002]:0050 Masq 1 0 0\n"
    )
    found = virtual_services(text)
    assert [(str(each.address), each.port) for each in found] == [("198.51.100.1", 9443), ("2001:db8::1", 80)]
    wiki = service("wiki", 7443, forward_to="10.9.0.2:443")
    (danger,) = ipvs_findings(found, BOTH, (wiki,))
    assert danger.remedy == "ipvsadm -D -t 198.51.100.1:9443"


def test_a_kernel_that_does_not_count_is_noted() -> None:
    assert ids(counting_findings("0")) == ["traffic-uncounted"]
    assert ids(counting_findings("1")) == []
    assert ids(counting_findings("")) == [], "without a perimeter there may be no connection tracking at all"


def test_xdp_programs_and_bridges_that_pass_by_are_noted() -> None:
    text = (
        '[{"ifname":"eth0","flags":["UP"],"xdp":{"mode":2,"prog":{"id":42}}},'
        '{"ifname":"br0","flags":["UP"],"linkinfo":{"info_kind":"bridge"}},'
        '{"ifname":"vnet0","flags":["UP"],"master":"br0","linkinfo":{"info_kind":"tun","info_slave_kind":"bridge"}},'
        '{"ifname":"eth1","flags":["UP"],"master":"br0","linkinfo":{"info_slave_kind":"bridge"}}]'
    )
    around = Surroundings(interfaces_in(json.loads(text)), ways={ip_address("10.9.0.2"): "br0"})
    assert ids(past_nftables(around, bridge_calls_ip=False)) == ["xdp", "bridge"]
    assert ids(past_nftables(around, bridge_calls_ip=True)) == ["xdp"]
    assert around.entrances() == ("eth0", "br0")


def test_the_interfaces_of_a_real_host_are_read(module_lab: Lab) -> None:
    listed = module_lab.server.run(["ip", "-j", "-d", "addr"]).stdout
    around = Surroundings(interfaces_in(json.loads(listed)))
    assert around.entrances() == ("eth0",)
    assert {module_lab.server.ipv4, module_lab.server.ipv6} <= around.addresses


@pytest.mark.parametrize(
    ("mode", "user", "expected"),
    [
        (FILE | 0o644, 0, ["config-permissions"]),
        (FILE | 0o664, 0, ["config-writable"]),
        (FILE | 0o646, 0, ["config-writable"]),
        (FILE | 0o644, 1000, ["config-owner"]),
        (FILE | 0o666, 1000, ["config-owner", "config-writable"]),
    ],
)
def test_who_can_change_the_configuration(mode: int, user: int, expected: list[str]) -> None:
    assert ids(config_findings(CONFIG, {CONFIG: PathState(mode, user)})) == expected


def test_a_folder_above_the_configuration_counts_unless_it_is_sticky() -> None:
    good = {CONFIG: PathState(FILE | 0o644, 0)}
    assert ids(config_findings(CONFIG, {**good, Path("/etc"): PathState(FOLDER | 0o777, 0)})) == ["config-writable"]
    assert ids(config_findings(CONFIG, {**good, Path("/etc"): PathState(FOLDER | 0o1777, 0)})) == ["config-permissions"]


@pytest.mark.parametrize(
    ("state", "id"),
    [
        (PathState(FOLDER | 0o700, 990), "state-permissions"),
        (PathState(FOLDER | 0o750, 990), "state-open"),
        (PathState(FOLDER | 0o700, 0), "state-owner"),
        (PathState(exists=False), "no-state"),
        (PathState(seen=False), "state-unseen"),
    ],
)
def test_the_state_folder_is_for_the_server_alone(state: PathState, id: str) -> None:
    folder = Path("/var/lib/spa")
    assert ids(state_findings(folder, "spa", 990, {folder: state})) == [id]


@pytest.mark.parametrize(
    ("state", "id"),
    [
        (PathState(FILE | 0o600, 0), "key-permissions"),
        (PathState(FILE | 0o640, 0), "key-open"),
        (PathState(FILE | 0o600, 1000), "key-owner"),
        (PathState(seen=False), "key-unseen"),
        (PathState(exists=False), "no-key"),
    ],
)
def test_the_key_is_kept_from_others(state: PathState, id: str) -> None:
    key = Path("/etc/spa/server.key")
    assert ids(key_findings((key,), {key: state}, frozenset((0, 990)))) == [id]


def test_the_control_socket_is_not_for_everybody() -> None:
    socket = Path("/run/spa/control.sock")
    assert ids(socket_findings(socket, {socket: PathState(0o140666, 990)})) == ["control-open"]
    assert ids(socket_findings(socket, {socket: PathState(0o140660, 990)})) == []


def test_whether_the_table_can_be_flushed_away() -> None:
    assert ids(ownership_findings(can_own=True, owned=True, kernel="6.18")) == ["perimeter-owned"]
    assert ids(ownership_findings(can_own=True, owned=False, kernel="6.18")) == ["perimeter-orphan"]
    assert ids(ownership_findings(can_own=False, owned=False, kernel="6.1")) == ["perimeter-flushable"]


def test_leases_that_end_are_left_alone() -> None:
    key = {"concat": ["198.51.100.11", "198.51.100.1", "tcp", 8443]}
    ends = {"elem": {"val": key, "timeout": 30, "expires": 12, "comment": "alice"}}
    assert ids(lease_findings((ends,))) == []
    (found,) = lease_findings((ends, key))
    assert found.remedy == "spa-server lease revoke 198.51.100.11"


def test_what_the_server_says_of_itself() -> None:
    assert ids(server_findings(None, "no server answers")) == ["server-down"]
    assert ids(server_findings({"pid": 1, "fault": "the disk is full"}, "")) == ["server-fault"]
    assert ids(server_findings({"pid": 1, "fault": ""}, "")) == ["server"]


def test_what_the_keeper_says_of_itself() -> None:
    well = {"config": str(CONFIG), "confirm_left_s": None}
    assert ids(keeper_findings(None, "no server answers", CONFIG)) == ["keeper-down"]
    assert ids(keeper_findings(well, "", CONFIG)) == ["keeper"]
    assert ids(keeper_findings({**well, "config": "/var/lib/spa-perimeter/applied.toml"}, "", CONFIG)) == [
        "keeper-old-config",
        "keeper",
    ]
    assert ids(keeper_findings({**well, "confirm_left_s": 30}, "", CONFIG)) == ["perimeter-on-trial", "keeper"]


def test_who_has_the_knock_port() -> None:
    def knock(address: str, pid: int, name: str) -> Listener:
        return Listener("udp", ip_address(address), 62201, pid, Process(pid, name, (name,)))

    ours = (knock("0.0.0.0", 7, "spa-server"), knock("::", 7, "spa-server"))
    assert ids(knock_port_findings(62201, (V4, V6), ours, 7, BOTH)) == ["knock-port"]
    assert ids(knock_port_findings(62201, (V4, V6), ours[:1], 7, BOTH)) == ["knock-port-unbound", "knock-port"]
    assert ids(knock_port_findings(62201, (V4,), (knock("0.0.0.0", 9, "dns"),), 7, BOTH)) == [
        "knock-port-taken",
        "knock-port",
    ]
    (unbound,) = knock_port_findings(40_000, (V4,), ours, 7, BOTH)
    assert (unbound.what, unbound.remedy) == ("nothing hears knocks on 0.0.0.0 udp/40000", "spa-server reload")
    (unbound,) = knock_port_findings(443, (V4,), ours, 7, BOTH)
    assert unbound.remedy == "spa-server install", "a running process cannot bind it"
    (unbound,) = knock_port_findings(443, (V4,), (), None, BOTH)
    assert unbound.remedy == "systemctl start spa-server"
    only_four = Surroundings((Interface("eth0", (ip_address("198.51.100.1"),)),))
    assert ids(knock_port_findings(62201, (V4, V6), ours[:1], 7, only_four)) == ["knock-port"]


def test_a_program_on_tcp_at_a_knock_port_that_nobody_reaches() -> None:
    def listener(address: str, port: int, protocol: str = "tcp") -> Listener:
        return Listener(protocol, ip_address(address), port, port, Process(9, "nginx"))

    there = (listener("0.0.0.0", 443), listener("127.0.0.1", 53), listener("::", 80), listener("::", 443, "udp"))
    (found,) = tcp_findings((62201, 443, 53), (service("web", 8443),), there)
    assert (found.id, found.severity) == ("knock-port-tcp", Severity.WARNING)
    assert "tcp/443" in found.what
    assert "nginx (pid 9)" in found.evidence
    assert ids(tcp_findings((62201, 443, 53), (service("web", 443),), there)) == []


@pytest.mark.parametrize(
    ("resolved", "listen", "expected"),
    [
        (("198.51.100.1", "2001:db8::1"), (V4, V6), []),
        (("198.51.100.1", "2001:db8::1"), (V4,), ["knock-no-ipv6"]),
        (("198.51.100.1",), (V4, V6), ["name-no-ipv6"]),
        ((), (V4, V6), ["name-unresolved", "name-no-ipv6"]),
    ],
)
def test_names_that_lead_where_nothing_hears(
    resolved: tuple[str, ...], listen: tuple[object, ...], expected: list[str]
) -> None:
    heard = tuple(address for address in (V4, V6) if address in listen)
    assert ids(name_findings({"gw.example.org": resolved}, heard, BOTH)) == expected


def test_a_name_for_a_version_that_this_host_does_not_have() -> None:
    only_four = Surroundings((Interface("eth0", (ip_address("198.51.100.1"),)),))
    found = name_findings({"gw": ("198.51.100.1", "2001:db8::1")}, (V4, V6), only_four)
    assert ids(found) == ["no-ipv6"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}, ["unit"]),
        ({"LoadState": "not-found"}, ["unit-missing"]),
        ({"LoadState": "masked", "ActiveState": "inactive"}, ["unit-masked", "unit-inactive"]),
        (
            {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "disabled", "NeedDaemonReload": "yes"},
            ["unit-disabled", "unit", "unit-stale"],
        ),
    ],
)
def test_what_the_service_manager_says_of_a_unit(state: dict[str, str], expected: list[str]) -> None:
    assert ids(unit_findings({"spa-perimeter.service": state}, ())) == expected


def test_a_unit_that_is_not_as_it_was_shipped() -> None:
    state = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
    found = unit_findings({"spa-server.service": state}, ("spa-server.service",))
    assert ids(found) == ["unit", "unit-changed"]


@pytest.mark.parametrize("program", ["/usr/local/bin/spa-server", "/opt/my tools/spa-server"])
def test_a_unit_is_as_shipped_whatever_program_it_starts(program: str) -> None:
    for number, unit in enumerate(unit_files(Path(program))):
        changes = (("NoNewPrivileges=yes", "NoNewPrivileges=no"), ("ExecStart=", "ExecStart=/bin/echo "), ("# ", "# x"))
        for said, instead in changes:
            standing = unit.text.replace(said, instead)
            shipped = unit_files(program_in(standing))[number]
            assert is_as_shipped(standing, shipped.text) is said.startswith("#")
        assert program_in(unit.text) == Path(program)
