"""The ways to the server: which families, which ports, through which address translation. Pure, over what came back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

from spa_client.addresses import places, udp_ports
from spa_client.examine.findings import Finding, Severity
from spa_client.examine.knocks import Round
from spa_client.exchange import Reply
from spa_protocol.answer import Answer
from spa_protocol.body import Address

_CARRIERS = IPv4Network("100.64.0.0/10")
"""Addresses that carriers give to customers behind their translation (RFC 6598)."""
_ONE_FAMILY = {4: "-4", 6: "-6"}


def family_findings(tried: Round) -> Iterator[Finding]:
    """Which family leads to the server and back."""
    for target in tried.no_route:
        other = "the other family is used" if tried.replies else "connect this computer to a network"
        yield Finding(
            f"ipv{target.address.version}-no-route",
            Severity.NOTE if tried.replies else Severity.FAULT,
            f"this computer has no IPv{target.address.version} network that leads to the server",
            f"no route to {target.address}",
            other,
        )
    for reply, answer in tried.answered:
        version = reply.target.address.version
        evidence = f"{reply.target.address} udp/{tried.port} answered {answer.seen}"
        yield Finding(f"ipv{version}", Severity.OK, f"knocks get through by IPv{version}", evidence)
    for reply in () if tried.about_clock else tried.silent:
        yield _broken(reply, tried.answered[0][0])


def _broken(reply: Reply, good: Reply) -> Finding:
    bad, version = reply.target.address, reply.target.address.version
    other = good.target.address
    return Finding(
        f"ipv{version}-silent",
        Severity.WARNING,
        f"IPv{version} is broken between this computer and the server, IPv{other.version} works: programs that try"
        f" IPv{version} first hang",
        reply.fault or f"{bad} did not answer, {other} did",
        f"connect to {other} (curl and ssh: {_ONE_FAMILY[other.version]}), and tell whoever runs the network",
    )


def silence_finding(rounds: Sequence[Round], label: str, remembered: str) -> Finding:
    """No port answered by any family. `remembered`: what the server said before, or ""."""
    replies = [reply for each in rounds for reply in each.replies]
    faults = sorted({reply.fault for reply in replies})
    where = f"{places([reply.target for reply in rounds[0].replies])} {udp_ports([each.port for each in rounds])}"
    if "" not in faults:
        return Finding(
            "cannot-send",
            Severity.FAULT,
            "this computer itself does not let knocks out",
            f"sending to {where}: {', '.join(faults)}",
            "look at the firewall of this computer",
        )
    return Finding(
        "no-answer",
        Severity.FAULT,
        "no answer to any knock: UDP is blocked, the server is down, or it does not know this device any more",
        f"nothing came back from {where}{remembered}",
        "try another network, such as a telephone's: if it works there, this one blocks UDP; otherwise ask whoever runs"
        f" the server for the output of: spa-server why {label}",
    )


def port_findings(first: Round, others: Sequence[Round]) -> Iterator[Finding]:
    """The usual knock port is silent and another one answers."""
    better = next((each for each in others if each.answered), None)
    if better is not None:
        yield Finding(
            "port-blocked",
            Severity.NOTE,
            f"this network blocks udp/{first.port}, the usual knock port; knocks get through by udp/{better.port}",
            f"udp/{first.port} was silent, udp/{better.port} answered",
        )


def translation_findings(rounds: Sequence[Round]) -> Iterator[Finding]:
    """Address translation: what the server saw is not what this computer has, or is not the same twice."""
    seen: dict[int, list[tuple[Reply, Answer]]] = {}
    for each in rounds:
        for reply, answer in each.answered:
            seen.setdefault(reply.target.address.version, []).append((reply, answer))
    for version, pairs in seen.items():
        addresses = list(dict.fromkeys(answer.seen for _, answer in pairs))
        local = pairs[0][0].local
        if len(addresses) > 1:
            yield _changing(version, local, addresses)
        elif addresses[0] != local:
            yield _translated(version, local, addresses[0])


def _changing(version: int, local: Address, addresses: Sequence[Address]) -> Finding:
    return Finding(
        f"ipv{version}-nat-changing",
        Severity.WARNING,
        f"the network gives this computer another IPv{version} address at every turn (carrier NAT): what a knock opens"
        " may not be open for the connection that follows",
        f"this computer is {local}; the server saw {' and then '.join(map(str, addresses))}",
        "use a network, a VPN or an address family that keeps one address",
    )


def _translated(version: int, local: Address, seen: Address) -> Finding:
    carrier = version == 4 and local in _CARRIERS
    return Finding(
        f"ipv{version}-nat",
        Severity.NOTE,
        f"address translation ({'carrier NAT' if carrier else 'NAT'}): it opens for {seen}, which others may share",
        f"this computer is {local}; the server saw {seen}",
    )
