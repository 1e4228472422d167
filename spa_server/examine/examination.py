"""The whole examination: look at everything once, and hand it to those who judge.

Every reader here leaves out what this user may not see, and says so; none changes anything.
"""

from __future__ import annotations

import contextlib
import json
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from pathlib import Path

from spa_server.config import ServerConfig
from spa_server.enforce.leases import SETS
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import NftMissing, PerimeterError
from spa_server.enforce.perimeter import show
from spa_server.enforce.ruleset import TABLE
from spa_server.enforce.table import TableSocket
from spa_server.examine import machine, permissions, running, standing
from spa_server.examine.detours import ways_around
from spa_server.examine.findings import Finding, Severity, worst_first
from spa_server.examine.listeners import Listener, read_listeners
from spa_server.examine.obstacles import addresses_behind, obstacles, offloads
from spa_server.examine.reading import LEGACY, legacy_tables, output, program, read_rules
from spa_server.examine.rules import RuleBook
from spa_server.examine.scratch import Trial, try_ruleset
from spa_server.examine.services import service_findings
from spa_server.examine.surroundings import Surroundings, read_surroundings
from spa_server.examine.trail import trail_findings
from spa_server.install.layout import UNIT_FOLDER, UNITS, unit_files
from spa_server.remember.identity import FILE_NAME
from spa_server.tell.control import NotRunning, ask

NAMES_S = 5.0
"""How long name servers may take, all together."""
SHOWN = ("LoadState", "ActiveState", "UnitFileState", "FragmentPath", "NeedDaemonReload")


def examine(config: ServerConfig) -> tuple[Finding, ...]:
    """Everything that there is to find, the worst first."""
    trial = try_ruleset(config.knock_ports, config.services)
    listeners = read_listeners()
    book, unseen = _rules()
    around = read_surroundings(addresses_behind(book, config.services))
    findings = [*unseen, *_files(config), *_machine(config, trial, around)]
    if not unseen:
        findings += _firewalls(config, book, around)
        findings += _perimeter(trial)
    findings += service_findings(book, around, listeners, config.services)
    findings += _server(config, listeners, around)
    return worst_first(findings)


def _rules() -> tuple[RuleBook, tuple[Finding, ...]]:
    """Other tables' rules, or why they cannot be seen."""
    try:
        return read_rules(), ()
    except NftMissing as error:
        what = "nft, which puts up the perimeter, is not installed"
        return RuleBook(), (Finding("no-nft", Severity.DANGER, what, str(error), "apt-get install nftables"),)
    except PerimeterError as error:
        what = "the firewall was not looked at"
        return RuleBook(), (Finding("rules-unseen", Severity.NOTE, what, str(error), "run it as root"),)


def _firewalls(config: ServerConfig, book: RuleBook, around: Surroundings) -> Iterator[Finding]:
    found = [
        *obstacles(book, around, config.knock_ports, config.services),
        *offloads(book, config.services),
        *ways_around(book, around, config.services),
    ]
    yield from found
    for table in book.unseen:
        yield Finding(
            "rules-iptables-unseen",
            Severity.NOTE,
            f"table {table} was written by iptables, and no iptables-save here shows what it says",
            "nft shows no more than the names of iptables' extensions",
            "apt-get install -y iptables",
        )
    for name in LEGACY:
        if legacy_tables(name) and not program(f"{name}-legacy-save"):
            yield Finding(
                "rules-legacy-unseen",
                Severity.NOTE,
                f"rules of {name}-legacy stand, and there is no program here that shows them",
                f"/proc/net/{LEGACY[name]}: {', '.join(legacy_tables(name))}",
                "apt-get install -y iptables",
            )
    if not any(each.severity >= Severity.WARNING for each in found):
        evidence = f"{len(book.chains)} chains of other tables"
        yield Finding("rules", Severity.OK, "no other table stands in the way or leads around", evidence)


def _perimeter(trial: Trial) -> Iterator[Finding]:
    yield from standing.standing_findings(_standing(), trial.text)
    with contextlib.suppress(KernelError, OSError), TableSocket(TABLE) as table:
        state = table.state()
        if state is not None:
            can_own = trial.can_own if trial.tried else None
            yield from standing.ownership_findings(
                can_own=can_own, owned=bool(state.owner_port), kernel=platform.release()
            )
    for name in SETS.values():
        listed = output("nft", "-j", "list", "set", "inet", TABLE, name)
        for item in json.loads(listed or '{"nftables": []}')["nftables"]:
            yield from standing.lease_findings(item.get("set", {}).get("elem", ()))


def _standing() -> str:
    with contextlib.suppress(PerimeterError):
        return show()
    return ""


def _files(config: ServerConfig) -> Iterator[Finding]:
    config_path = config.path.absolute()
    keys = (config_path.parent / FILE_NAME, config.state_folder / FILE_NAME)
    user = permissions.user_id(config.user)
    paths = permissions.read_paths(
        (*permissions.with_parents(config_path), config.state_folder, *keys, config.control_socket)
    )
    yield from permissions.config_findings(config_path, paths)
    yield from permissions.state_findings(config.state_folder, config.user, user, paths)
    yield from permissions.key_findings(keys, paths, frozenset({0} | ({user} if user is not None else set())))
    yield from permissions.socket_findings(config.control_socket, paths)
    yield from permissions.disk_findings((config.state_folder, config.audit_file.parent))
    yield from trail_findings(config.audit_file)


def _machine(config: ServerConfig, trial: Trial, around: Surroundings) -> Iterator[Finding]:
    yield from machine.kernel_findings(trial, output("nft", "--version").strip(), platform.release())
    yield from machine.clock_findings(machine.read_clock(), config.max_skew_s)
    calls_ip = _text("/proc/sys/net/bridge/bridge-nf-call-iptables").strip() == "1"
    yield from machine.past_nftables(around, calls_ip)
    yield from machine.counting_findings(_text("/proc/sys/net/netfilter/nf_conntrack_acct").strip())
    virtual = machine.virtual_services(_text("/proc/thread-self/net/ip_vs"))
    yield from machine.ipvs_findings(virtual, around, config.services)


def _server(config: ServerConfig, listeners: Sequence[Listener], around: Surroundings) -> Iterator[Finding]:
    status: Mapping[str, object] | None = None
    said = ""
    try:
        status = ask(config.control_socket, "status")
    except (NotRunning, OSError) as error:
        said = str(error)
    yield from running.server_findings(status, said)
    yield from _keeper(config)
    pid = status.get("pid") if status else None
    server_pid = pid if isinstance(pid, int) else None
    for port in config.knock_ports:
        yield from running.knock_port_findings(port, config.listen, listeners, server_pid, around)
    yield from running.tcp_findings(config.knock_ports, config.services, listeners)
    yield from running.name_findings(_resolved(config.addresses), config.listen, around)
    if Path("/run/systemd/system").is_dir():
        shown = {unit: _shown(unit) for unit in UNITS}
        yield from running.unit_findings({unit: state for unit, state in shown.items() if state}, _changed_units())


def _keeper(config: ServerConfig) -> Iterator[Finding]:
    status: Mapping[str, object] | None = None
    said = ""
    try:
        status = ask(config.perimeter_folder / "control", "status")
    except PermissionError:
        yield Finding(
            "keeper-unseen", Severity.NOTE, "the keeper was not asked: it answers root only", "", "run it as root"
        )
        return
    except (NotRunning, OSError) as error:
        said = str(error)
    yield from running.keeper_findings(status, said, config.path.absolute())


def _resolved(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The addresses of each name; names that took too long are left out."""
    pool = ThreadPoolExecutor(max_workers=4)
    asked = {name: pool.submit(_addresses, name) for name in names}
    found = {}
    for name, answer in asked.items():
        with contextlib.suppress(TooLong):
            found[name] = answer.result(timeout=NAMES_S)
    pool.shutdown(wait=False)
    return found


def _addresses(name: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_DGRAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def _shown(unit: str) -> dict[str, str]:
    listed = output("systemctl", "show", unit, *(f"--property={name}" for name in SHOWN))
    return dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)


def _changed_units() -> Iterator[str]:
    for unit in UNITS:
        standing = _text(UNIT_FOLDER / unit)
        shipped = {file.path.name: file.text for file in unit_files(running.program_in(standing))}
        if standing and not running.is_as_shipped(standing, shipped[unit]):
            yield unit


def _text(path: str | Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8")
    return ""
