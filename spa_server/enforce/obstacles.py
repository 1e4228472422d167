"""What stands in the way outside our own table: other tables that drop what a lease lets through.

An `accept` in one base chain does not overrule another table's `drop`, so a host with ufw or firewalld needs a rule
there as well. This finds such tables and says the very command; it changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spa_server.enforce.nft_program import Item, ruleset_items
from spa_server.enforce.ruleset import TABLE, merged
from spa_server.service import Address, PortRange, Service

IPTABLES = {"ip": "iptables", "ip6": "ip6tables"}
FILTER_FAMILIES = ("ip", "ip6", "inet")
FIREWALLD = "firewalld"
UFW_CHAINS = ("ufw-before-input", "ufw6-before-input")


@dataclass(frozen=True, slots=True)
class _Opening:
    """Ports that another table has to let through, at `daddr` for forwarded ones."""

    protocol: str
    ports: PortRange
    daddr: str = ""
    version: int = 0


def foreign_obstacles(knock_port: int, services: Sequence[Service]) -> tuple[str, ...]:
    """A sentence with the command to run for each table that may drop knocks or leased packets."""
    return obstacles_in(ruleset_items(), knock_port, services)


def obstacles_in(items: tuple[Item, ...], knock_port: int, services: Sequence[Service]) -> tuple[str, ...]:
    """As `foreign_obstacles`, for a ruleset as nft's JSON gives it."""
    inputs = (_Opening("udp", PortRange(knock_port, knock_port)), *_inputs(services))
    forwards = tuple(_forwards(services))
    others = tuple(item for item in items if not _is_ours(item))
    sentences = [*_firewalld(others, inputs, forwards), *_ufw(others, inputs, forwards)]
    sentences += _base_chains(others, "input", inputs)
    sentences += _base_chains(others, "forward", forwards)
    sentences += _flowtables(others)
    return tuple(dict.fromkeys(sentences))


def _inputs(services: Sequence[Service]) -> Iterator[_Opening]:
    for service in services:
        if not service.forward_to:
            yield from _openings(service)


def _forwards(services: Sequence[Service]) -> Iterator[_Opening]:
    for service in services:
        for target in service.forward_to:
            for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp)):
                if ranges:
                    at = PortRange(target.port, target.port)
                    yield _Opening(protocol, at, str(target.address), target.address.version)
        if not service.forward_to:
            for host in service.hosts:
                if _is_here(host):
                    continue
                yield from (_Opening(each.protocol, each.ports, str(host), host.version) for each in _openings(service))


def _is_here(host: Address) -> bool:
    """Whether an address is this machine's own: only those can be bound."""
    with socket.socket(socket.AF_INET if host.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(host), 0))
        except OSError:
            return False
        return True


def _openings(service: Service) -> Iterator[_Opening]:
    for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp)):
        yield from (_Opening(protocol, ports) for ports in merged(ranges))


def _is_ours(item: Item) -> bool:
    return any(found.get("family") == "inet" and _table_of(kind, found) == TABLE for kind, found in item.items())


def _table_of(kind: str, found: dict[str, Any]) -> str:
    name: str = found.get("name" if kind == "table" else "table", "")
    return name


def _firewalld(items: tuple[Item, ...], inputs: Sequence[_Opening], forwards: Sequence[_Opening]) -> Iterator[str]:
    if not any(item.get("table", {}).get("name") == FIREWALLD for item in items):
        return
    missing = _missing(items, "inet", FIREWALLD, inputs)
    if missing:
        wanted = " ".join(f"--add-port={each.ports}/{each.protocol}" for each in missing)
        yield (
            "firewalld drops what its zones do not name; this table still keeps the services closed: "
            f"firewall-cmd --permanent {wanted} && firewall-cmd --reload"
        )
    missing = _missing(items, "inet", FIREWALLD, forwards)
    if missing:
        rules = " ".join(f"--add-rich-rule='{_rich_rule(each)}'" for each in missing)
        yield (
            "firewalld drops forwarded packets that no policy names: "
            "firewall-cmd --permanent --new-policy spa; firewall-cmd --permanent --policy spa "
            f"--add-ingress-zone ANY --add-egress-zone ANY {rules} && firewall-cmd --reload"
        )


def _rich_rule(each: _Opening) -> str:
    return (
        f'rule family="ipv{each.version}" destination address="{each.daddr}" '
        f'port port="{each.ports}" protocol="{each.protocol}" accept'
    )


def _ufw(items: tuple[Item, ...], inputs: Sequence[_Opening], forwards: Sequence[_Opening]) -> Iterator[str]:
    if not any(item.get("chain", {}).get("name") in UFW_CHAINS for item in items):
        return
    # ufw writes a range with a colon, and wants the protocol with it.
    commands = [f"ufw allow {_colon(each.ports)}/{each.protocol}" for each in _missing(items, "ip", "filter", inputs)]
    commands += [
        f"ufw route allow proto {each.protocol} to {each.daddr} port {_colon(each.ports)}"
        for family in ("ip", "ip6")
        for each in _missing(items, family, "filter", forwards)
    ]
    if commands:
        yield (f"ufw drops what it does not name; this table still keeps the services closed: {' && '.join(commands)}")


def _colon(ports: PortRange) -> str:
    return str(ports).replace("-", ":")


def _base_chains(items: tuple[Item, ...], hook: str, wanted: Sequence[_Opening]) -> Iterator[str]:
    """A sentence for each base chain of other tables that ends in a drop and has no rule for what is wanted."""
    managed = _managed_tables(items)
    for item in items:
        chain = item.get("chain", {})
        family, table = chain.get("family", ""), chain.get("table", "")
        if chain.get("hook") != hook or family not in FILTER_FAMILIES or (family, table) in managed:
            continue
        if chain.get("policy") != "drop" and not _ends_closed(items, family, table, chain["name"]):
            continue
        missing = _missing(items, family, table, wanted)
        if missing:
            commands = " && ".join(_insert(family, table, chain["name"], each) for each in missing)
            yield f"chain {chain['name']} of table {family} {table} drops what it does not name: {commands}"


def _missing(items: tuple[Item, ...], family: str, table: str, wanted: Sequence[_Opening]) -> list[_Opening]:
    """What no rule of a table accepts, of what its family can hold."""
    accepted = tuple(_accepted(items, family, table))
    return [
        each
        for each in wanted
        if family == "inet" or each.version in (0, _version(family))
        if not any(protocol == each.protocol and _covers(ports, each.ports) for protocol, ports in accepted)
    ]


def _ends_closed(items: tuple[Item, ...], family: str, table: str, chain: str) -> bool:
    """Whether a chain's last rule drops or rejects everything that gets there."""
    rules = (item["rule"] for item in items if "rule" in item)
    here = [rule for rule in rules if (rule["family"], rule["table"], rule["chain"]) == (family, table, chain)]
    statements: set[str] = {kind for statement in here[-1]["expr"] for kind in statement} if here else set()
    return bool(statements & {"drop", "reject"}) and statements <= {"drop", "reject", "counter", "log"}


def _managed_tables(items: tuple[Item, ...]) -> frozenset[tuple[str, str]]:
    """Tables of ufw and firewalld, which have sentences of their own."""
    chains = (item["chain"] for item in items if "chain" in item)
    return frozenset(
        (chain["family"], chain["table"])
        for chain in chains
        if chain["name"] in UFW_CHAINS or chain["table"] == FIREWALLD
    )


def _insert(family: str, table: str, chain: str, each: _Opening) -> str:
    if family in IPTABLES and table == "filter" and chain.isupper():
        to = f" -d {each.daddr}" if each.daddr else ""
        return f"{IPTABLES[family]} -I {chain}{to} -p {each.protocol} --dport {_colon(each.ports)} -j ACCEPT"
    to = f" {'ip6' if each.version == 6 else 'ip'} daddr {each.daddr}" if each.daddr else ""
    return f"nft insert rule {family} {table} {chain}{to} {each.protocol} dport {each.ports} accept"


def _accepted(items: tuple[Item, ...], family: str, table: str) -> Iterator[tuple[str, PortRange]]:
    """(protocol, ports) that any rule of a table accepts; who may reach them is not looked at."""
    for item in items:
        rule = item.get("rule", {})
        statements = rule.get("expr", ())
        if (rule.get("family"), rule.get("table")) != (family, table):
            continue
        if not any("accept" in statement for statement in statements):
            continue
        for statement in statements:
            match = statement.get("match", {})
            left = match.get("left", {})
            payload = left.get("payload", {}) if isinstance(left, dict) else {}
            if match.get("op") == "==" and payload.get("field") == "dport":
                yield from ((payload["protocol"], ports) for ports in _ports(match["right"]))


def _ports(right: Any) -> Iterator[PortRange]:
    """The ports of a match: a number, a range, or a set of either."""
    match right:
        case int():
            yield PortRange(right, right)
        case {"range": [int(first), int(last)]}:
            yield PortRange(first, last)
        case {"set": list(members)}:
            for member in members:
                yield from _ports(member)


def _covers(outer: PortRange, inner: PortRange) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last


def _version(family: str) -> int:
    return 6 if family == "ip6" else 4


def _flowtables(items: tuple[Item, ...]) -> Iterator[str]:
    for item in items:
        found = item.get("flowtable")
        if found is not None:
            family, table, name = found["family"], found["table"], found["name"]
            yield (
                f"flowtable {name} carries forwarded sessions past every rule, so they outlive their lease: take the"
                f" services out of 'flow add @{name}', see: nft -a list table {family} {table}"
            )
