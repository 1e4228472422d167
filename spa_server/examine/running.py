"""Whether the server runs and hears knocks, and whether the service manager starts it as it was shipped. Pure."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from spa_server.examine.findings import Finding, Severity
from spa_server.examine.listeners import Listener
from spa_server.examine.surroundings import Surroundings
from spa_server.install.layout import FIRST_FREE_PORT
from spa_server.service import Address, Service

START = "systemctl start spa-server"
BIND_LOW = "spa-server install"
"""Gives the unit what it takes to bind a port below FIRST_FREE_PORT, and restarts it."""


def server_findings(status: Mapping[str, object] | None, said: str) -> Iterator[Finding]:
    """What the running server says of itself; None where none answers, for the reason `said`."""
    if status is None:
        yield Finding("server-down", Severity.WARNING, "the server does not answer: nobody can get in", said, START)
        return
    evidence = f"pid {status.get('pid')}, up {status.get('up_s')} s, {status.get('tags_armed')} tags armed"
    if status.get("fault"):
        yield Finding(
            "server-fault",
            Severity.WARNING,
            f"the server grants nothing: {status['fault']}",
            evidence,
            "journalctl -u spa-server -n 50",
        )
    else:
        yield Finding("server", Severity.OK, "the server runs and answers", evidence)


def keeper_findings(status: Mapping[str, object] | None, said: str, config: Path) -> Iterator[Finding]:
    """What the process that keeps the perimeter says of itself; None where none answers, for the reason `said`."""
    if status is None:
        yield Finding(
            "keeper-down",
            Severity.WARNING,
            "nothing keeps the perimeter: no lease can be opened, and nothing puts it back when it is taken away",
            said,
            "systemctl start spa-perimeter",
        )
        return
    works_from = Path(str(status.get("config", config)))
    if works_from.is_absolute() and works_from != config:
        yield Finding(
            "keeper-old-config",
            Severity.WARNING,
            f"the perimeter is kept from another configuration than {config}: that one could not be used",
            f"it works from {works_from}",
            "spa-server reload",
        )
    left_s = status.get("confirm_left_s")
    if left_s is not None:
        yield Finding(
            "perimeter-on-trial",
            Severity.NOTE,
            f"the perimeter is on trial: in {left_s} s the old one is put back, unless somebody knocks or confirms",
            "the keeper's status",
            "spa-server perimeter confirm",
        )
    yield Finding("keeper", Severity.OK, "the keeper runs and answers", "on its control socket")


def knock_port_findings(
    port: int, listen: Sequence[Address], listeners: Sequence[Listener], server_pid: int | None, around: Surroundings
) -> Iterator[Finding]:
    """Who holds one of the knock ports. That a datagram gets there from outside cannot be shown from here."""
    holders = [each for each in listeners if each.protocol == "udp" and each.port == port]
    for each in holders:
        foreign = server_pid is not None and each.process is not None and each.process.pid not in (server_pid, 1)
        if foreign and not _is_ours(each):
            yield Finding(
                "knock-port-taken",
                Severity.WARNING,
                f"another program has udp/{port}, on which knocks are heard",
                str(each),
                f"stop it: {each.process}",
            )
    for address in listen:
        if not any(each.address == address for each in holders):
            if address.is_unspecified and not around.has_global(address.version) and len(listen) > 1:
                continue
            yield Finding(
                "knock-port-unbound",
                Severity.WARNING,
                f"nothing hears knocks on {address} udp/{port}",
                "no such socket in /proc/net/udp",
                START if server_pid is None else BIND_LOW if port < FIRST_FREE_PORT else "spa-server reload",
            )
    if holders:
        yield Finding(
            "knock-port",
            Severity.OK,
            f"udp/{port} is bound; whether networks on the way let knocks through only a client can tell",
            ", ".join(map(str, holders)),
            "from a client: spa-client knock NAME",
        )


def tcp_findings(ports: Iterable[int], services: Iterable[Service], listeners: Iterable[Listener]) -> Iterator[Finding]:
    """Programs that listen on TCP where knocks are taken on UDP: a knock port is silent to both."""
    closed = set(ports) - {port for service in services for protocol, port in service.ports() if protocol == "tcp"}
    for each in listeners:
        if each.protocol == "tcp" and each.port in closed and not each.is_inside_only:
            yield Finding(
                "knock-port-tcp",
                Severity.WARNING,
                f"nobody outside reaches tcp/{each.port}: it is a knock port, and to TCP that is silent, too",
                str(each),
                f"take knocks on another port than {each.port}, or make tcp/{each.port} a service",
            )


def _is_ours(listener: Listener) -> bool:
    return listener.process is not None and any("spa-server" in each for each in listener.process.arguments)


def name_findings(
    names: Mapping[str, Sequence[str]], listen: Sequence[Address], around: Surroundings
) -> Iterator[Finding]:
    """What the server's names resolve to, against what it hears on: gaps between the IP versions."""
    for name, texts in names.items():
        found = [ip_address(text.partition("%")[0]) for text in texts]
        if not found:
            yield Finding(
                "name-unresolved",
                Severity.WARNING,
                f"{name}, which is written into invites, has no address",
                "getaddrinfo(3)",
                f"give it A and AAAA records, or change server.addresses: {name}",
            )
        for version in sorted({address.version for address in found}):
            some = next(address for address in found if address.version == version)
            if not any(address.version == version for address in listen):
                yield Finding(
                    f"knock-no-ipv{version}",
                    Severity.WARNING,
                    f"clients find {name} over IPv{version}, but server.listen has no IPv{version} address",
                    f"{name} is {some}",
                    f'add "{"::" if version == 6 else "0.0.0.0"}" to server.listen',  # noqa: S104
                )
            elif not around.has_global(version) and around.interfaces and not some.is_loopback:
                yield Finding(
                    f"no-ipv{version}",
                    Severity.NOTE,
                    f"clients find {name} over IPv{version}, but this host has no such address",
                    f"{name} is {some}",
                    f"take the address out of the name's records, or give this host an IPv{version} address",
                )
    if around.has_global(6) and names and not any(":" in text for texts in names.values() for text in texts):
        yield Finding(
            "name-no-ipv6",
            Severity.NOTE,
            "this host has IPv6 addresses, but none of server.addresses leads there: leases will be for IPv4 only",
            ", ".join(names),
            "add an AAAA record, or the address to server.addresses",
        )


def unit_findings(shown: Mapping[str, Mapping[str, str]], changed: Iterable[str]) -> Iterator[Finding]:
    """What systemctl shows of each unit; `changed` are those whose file is not the shipped one."""
    altered = set(changed)
    for unit, state in shown.items():
        if state.get("LoadState") == "not-found":
            yield Finding(
                "unit-missing", Severity.NOTE, f"{unit} is not installed", "systemctl show", "spa-server install"
            )
            continue
        evidence = ", ".join(f"{key} {value}" for key, value in state.items() if value and key.endswith("State"))
        if state.get("UnitFileState") == "masked" or state.get("LoadState") == "masked":
            yield Finding("unit-masked", Severity.WARNING, f"{unit} is masked", evidence, f"systemctl unmask {unit}")
        elif state.get("UnitFileState") not in ("enabled", "enabled-runtime", "static", "alias"):
            yield Finding(
                "unit-disabled",
                Severity.WARNING,
                f"{unit} does not start at boot" + (": nothing closes the ports then" if "perimeter" in unit else ""),
                evidence,
                f"systemctl enable {unit}",
            )
        if state.get("ActiveState") not in ("active", "reloading"):
            yield Finding(
                "unit-inactive", Severity.WARNING, f"{unit} does not run", evidence, f"systemctl start {unit}"
            )
        else:
            yield Finding("unit", Severity.OK, f"{unit} runs", evidence)
        if unit in altered:
            yield Finding(
                "unit-changed",
                Severity.WARNING,
                f"the file of {unit} is not the one that was shipped; changes belong into a drop-in",
                state.get("FragmentPath", ""),
                "spa-server install",
            )
        if state.get("NeedDaemonReload") == "yes":
            yield Finding(
                "unit-stale",
                Severity.WARNING,
                f"{unit} runs by an older file than the one on disk",
                state.get("FragmentPath", ""),
                f"systemctl daemon-reload && systemctl restart {unit}",
            )


def program_in(unit: str) -> Path:
    """The program that a unit's text starts."""
    for line in unit.splitlines():
        if line.startswith("ExecStart="):
            with contextlib.suppress(ValueError, IndexError):
                word = shlex.split(line.partition("=")[2])[0]
                return Path(word.replace("%%", "%").replace("$$", "$"))
    return Path("/nonexistent")


def is_as_shipped(standing: str, shipped: str) -> bool:
    """Whether a unit's text says the same as the shipped one for its program, whatever its comments say."""
    return _settings(standing) == _settings(shipped)


def _settings(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", ";"))]
