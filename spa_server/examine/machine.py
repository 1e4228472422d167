"""The machine below: kernel, clock, and what moves packets without asking nftables. Pure but for `read_clock`."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from spa_server.examine.findings import Finding, Severity
from spa_server.examine.leads import Place, places
from spa_server.examine.scratch import Trial
from spa_server.examine.surroundings import Surroundings
from spa_server.service import Address, Service

STA_UNSYNC = 0x40
TIME_ERROR = 5
"""From linux/timex.h."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What adjtimex(2) says: whether something keeps the clock, and how far off it may be at most."""

    synchronised: bool
    most_error_ms: float


def read_clock() -> Clock | None:
    """The kernel's word on its clock; None where it gives none."""
    timex = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state < 0:
        return None
    _modes, _offset, _freq, most_us, _estimated_us, status = struct.unpack_from("@Illlli", timex)
    return Clock(state != TIME_ERROR and not status & STA_UNSYNC, most_us / 1000)


def clock_findings(clock: Clock | None, max_skew_s: int) -> Iterator[Finding]:
    """Knocks bear a time: a clock that runs away refuses everybody."""
    if clock is None:
        yield Finding("clock-unseen", Severity.NOTE, "the kernel does not say whether its clock is kept", "adjtimex(2)")
    elif not clock.synchronised:
        yield Finding(
            "clock-unsynchronised",
            Severity.WARNING,
            f"nothing keeps the clock: once it is off by more than {max_skew_s} s, every knock is refused",
            f"adjtimex: not synchronised, off by up to {clock.most_error_ms:.0f} ms by the kernel's own account",
            "apt-get install -y chrony, or: timedatectl set-ntp true",
        )
    elif clock.most_error_ms > max_skew_s * 500:
        yield Finding(
            "clock-loose",
            Severity.WARNING,
            f"the clock may be off by more than half of max_skew_s = {max_skew_s}",
            f"adjtimex: at most {clock.most_error_ms:.0f} ms",
            "chronyc makestep",
        )
    else:
        evidence = f"adjtimex: off by at most {clock.most_error_ms:.0f} ms"
        yield Finding("clock", Severity.OK, "the clock is kept", evidence)


def kernel_findings(trial: Trial, nft_version: str, kernel: str) -> Iterator[Finding]:
    """Whether this kernel and this nft can hold the perimeter: tried, not guessed from their versions."""
    evidence = f"Linux {kernel}, {nft_version or 'nft of unknown version'}"
    if not trial.tried:
        yield Finding(
            "kernel-untried",
            Severity.NOTE,
            "whether this kernel takes the ruleset was not tried: no network namespace could be made",
            f"{evidence}; {trial.refused}",
            "run it as root",
        )
    elif trial.refused:
        yield Finding(
            "kernel-refuses",
            Severity.DANGER,
            "this kernel or this nft does not take the ruleset",
            f"{evidence}; {trial.refused}",
            "modprobe -a nf_tables nft_ct nft_fib_inet nft_nat nft_masq; "
            "needed are Linux 5.10 and nftables 1.0 or newer",
        )
    else:
        yield Finding("kernel", Severity.OK, "the kernel takes the whole ruleset, in a scratch namespace", evidence)


def past_nftables(around: Surroundings, bridge_calls_ip: bool) -> Iterator[Finding]:
    """XDP programs, and bridges that carry packets to protected guests beside the IP layer."""
    for interface in around.interfaces:
        if interface.program:
            yield Finding(
                "xdp",
                Severity.NOTE,
                f"an XDP program on {interface.name} sees every packet before nftables does",
                f"ip -d link show {interface.name}: {interface.program}",
                f"if it is not yours: ip link set dev {interface.name} xdp off",
            )
    bridges = {interface.name for interface in around.interfaces if interface.kind == "bridge"}
    for address, way in around.ways.items():
        ports = [each.name for each in around.interfaces if each.bridge == way]
        if way in bridges and len(ports) > 1 and not bridge_calls_ip:
            yield Finding(
                "bridge",
                Severity.NOTE,
                f"neighbours of {address} on the bridge {way} reach it without passing these rules",
                f"{way} joins {', '.join(ports)}; bridge-nf-call-iptables is off",
                "if they must not: modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1"
                " net.bridge.bridge-nf-call-ip6tables=1",
            )


def counting_findings(counted: str) -> Iterator[Finding]:
    """Whether connection tracking counts bytes. `counted`: what its switch says, "" where there is none."""
    if counted and counted != "1":
        yield Finding(
            "traffic-uncounted",
            Severity.NOTE,
            "the kernel does not count what goes through a connection, so the audit trail does not tell it",
            f"net.netfilter.nf_conntrack_acct = {counted}",
            "sysctl -w net.netfilter.nf_conntrack_acct=1",
        )


@dataclass(frozen=True, slots=True)
class VirtualService:
    """A port that IPVS balances over real servers."""

    protocol: str
    address: Address
    port: int
    servers: tuple[tuple[Address, int], ...]


_SERVICE = re.compile(r"(TCP|UDP)\s+(\S+):([0-9A-F]{4})\s")
_SERVER = re.compile(r"\s+->\s+(\S+):([0-9A-F]{4})\s")


def virtual_services(text: str) -> tuple[VirtualService, ...]:
    """What /proc/net/ip_vs lists."""
    found: list[VirtualService] = []
    for line in text.splitlines():
        if match := _SERVICE.match(line):
            found.append(VirtualService(match[1].lower(), _vs_address(match[2]), int(match[3], 16), ()))
        elif (match := _SERVER.match(line)) and found:
            last = found[-1]
            servers = (*last.servers, (_vs_address(match[1]), int(match[2], 16)))
            found[-1] = VirtualService(last.protocol, last.address, last.port, servers)
    return tuple(found)


def _vs_address(text: str) -> Address:
    return ip_address(text.strip("[]")) if "[" in text else ip_address(int(text, 16))


def ipvs_findings(
    found: Sequence[VirtualService], around: Surroundings, services: Sequence[Service]
) -> Iterator[Finding]:
    """IPVS takes packets at the input hook, after our chain judged the virtual port."""
    closed = {each for service in services for each in service.ports()}
    for each in found:
        if (each.protocol, each.port) in closed:
            continue
        for place in places(services):
            if place.protocol == each.protocol and any(_is_at(place, *server, around) for server in each.servers):
                option = "-t" if each.protocol == "tcp" else "-u"
                host = f"[{each.address}]" if each.address.version == 6 else str(each.address)
                yield Finding(
                    "ipvs",
                    Severity.DANGER,
                    f"IPVS leads {host}:{each.port} to service {place.service} without a lease",
                    "/proc/net/ip_vs",
                    f"ipvsadm -D {option} {host}:{each.port}",
                )
                break


def _is_at(place: Place, address: Address, port: int, around: Surroundings) -> bool:
    here = place.address == address or (place.address is None and (address in around.addresses or address.is_loopback))
    return here and place.ports.first <= port <= place.ports.last
