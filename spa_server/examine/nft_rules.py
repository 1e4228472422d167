"""nft's JSON (libnftables-json(5)) read into rules. Pure: the objects are arguments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any

from spa_server.examine.rules import About, Chain, Lead, Match, Rule, Value, Verdict
from spa_server.service import PortRange

Item = dict[str, Any]

_VERSIONS = {"ip": 4, "ip6": 6, "ipv4": 4, "ipv6": 6}
_META = {
    "l4proto": About.PROTOCOL,
    "nfproto": About.VERSION,
    "iif": About.INTERFACE,
    "iifname": About.INTERFACE,
    "oif": About.OUT_INTERFACE,
    "oifname": About.OUT_INTERFACE,
}
_VERDICTS = {
    "accept": Verdict.ACCEPT,
    "drop": Verdict.DROP,
    "reject": Verdict.DROP,
    "return": Verdict.RETURN,
    "jump": Verdict.JUMP,
    "goto": Verdict.GOTO,
}
_XT_VERDICTS = {"REJECT": Verdict.DROP, "DROP": Verdict.DROP, "ACCEPT": Verdict.ACCEPT}
_XT_LEADS = ("DNAT", "REDIRECT", "TPROXY", "NETMAP")
_XT_HARMLESS = ("comment", "tcp", "udp")


Texts = Mapping[tuple[str, str, int], str]
"""Rules as nft writes them for people, by family, table and handle."""


def nft_chains(items: Iterable[Item], texts: Texts = MappingProxyType({})) -> tuple[Chain, ...]:
    """The chains of a ruleset with their rules."""
    listed = tuple(items)
    maps = {_name(item["map"]): item["map"].get("elem", ()) for item in listed if "map" in item}
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for item in listed:
        if "rule" in item:
            rule = item["rule"]
            place = (rule["family"], rule["table"], rule["chain"])
            rules.setdefault(place, []).extend(_rules(rule, maps, texts))
    return tuple(_chain(item["chain"], rules) for item in listed if "chain" in item)


def rule_texts(listed: str) -> dict[tuple[str, str, int], str]:
    """The lines of `nft -a list ruleset` that are rules."""
    texts: dict[tuple[str, str, int], str] = {}
    family = table = ""
    for line in listed.splitlines():
        text, found, handle = line.strip().rpartition(" # handle ")
        if line.startswith("table "):
            _, family, table = line.split()[:3]
        elif found and handle.isdigit() and not text.endswith("{"):
            texts[family, table, int(handle)] = text
    return texts


def _name(found: Item) -> tuple[str, str, str]:
    return found["family"], found["table"], found["name"]


def _chain(found: Item, rules: dict[tuple[str, str, str], list[Rule]]) -> Chain:
    devices = found.get("dev", ())
    return Chain(
        *_name(found),
        rules=tuple(rules.get(_name(found), ())),
        hook=found.get("hook", ""),
        priority=found.get("prio", 0),
        kind=found.get("type", "filter"),
        policy=found.get("policy", "accept"),
        devices=(devices,) if isinstance(devices, str) else tuple(devices),
    )


def _rules(found: Item, maps: dict[tuple[str, str, str], Any], texts: Texts) -> Iterator[Rule]:
    """A rule; of one with a verdict map, one for each of the map's elements."""
    family, table, chain, handle = (found[key] for key in ("family", "table", "chain", "handle"))
    rule = Rule(
        (),
        text=f"{family} {table} {chain}: {texts.get((family, table, handle)) or json.dumps(found['expr'])}",
        delete=f"nft delete rule {family} {table} {chain} handle {handle}",
    )
    for statement in found["expr"]:
        kind, said = next(iter(statement.items()))
        if kind == "vmap":
            for matches, verdict in _vmap(said, (family, table), maps):
                yield replace(_with_verdict(rule, verdict), matches=rule.matches + matches)
        else:
            rule = _with_statement(rule, kind, said, (family, table), maps)
    yield rule


def _with_statement(rule: Rule, kind: str, said: Any, place: tuple[str, str], maps: Any) -> Rule:
    match kind:
        case "match":
            return replace(rule, matches=rule.matches + tuple(_matches(said)))
        case "xt":
            return _with_xt(rule, said)
        case "limit" | "quota" | "set" | "queue":
            return replace(rule, matches=(*rule.matches, Match(About.OTHER)))
        case "dnat" | "redirect" | "tproxy":
            lead = _lead(said or {}, place, maps)
            return replace(rule, lead=lead, verdict=Verdict.GO_ON if kind == "tproxy" else Verdict.ACCEPT)
        case "mangle":
            return _with_mangle(rule, said)
        case "notrack":
            return replace(rule, untracked=True)
        case "flow":
            return replace(rule, flowtable=str(said.get("flowtable", "@?")).removeprefix("@"))
        case _ if kind in _VERDICTS:
            return _with_verdict(rule, {kind: said})
    return rule


def _with_verdict(rule: Rule, statement: Item) -> Rule:
    ((kind, said),) = statement.items()
    target = said.get("target", "") if isinstance(said, dict) and kind in ("jump", "goto") else ""
    return replace(rule, verdict=_VERDICTS.get(kind, Verdict.GO_ON), target=target)


def _with_xt(rule: Rule, said: Item) -> Rule:
    """What iptables wrote: nft's JSON names its extensions, and hides what they say."""
    name = said.get("name", "")
    if said.get("type") == "match":
        return rule if name in _XT_HARMLESS else replace(rule, matches=(*rule.matches, Match(About.OTHER)))
    if name in _XT_LEADS:
        return replace(rule, lead=Lead(known=False))
    return replace(rule, verdict=_XT_VERDICTS.get(name, rule.verdict))


def _with_mangle(rule: Rule, said: Item) -> Rule:
    """A rewritten header field: only the destination's are of interest."""
    payload, value = said["key"].get("payload", {}) if isinstance(said["key"], dict) else {}, said["value"]
    if payload.get("field") == "dport":
        return replace(rule, lead=Lead(ports=_port(value), known=isinstance(value, int)))
    if payload.get("field") == "daddr":
        known = isinstance(value, str)
        return replace(rule, lead=Lead(address=ip_address(value) if known else None, known=known))
    return rule


def _matches(said: Item) -> Iterator[Match]:
    left, negated = said["left"], said["op"] == "!="
    values = tuple(_values(said["right"]))
    about = About.OTHER
    match left:
        case {"payload": {"protocol": protocol, "field": field}}:
            # A field's protocol is a match as well, that no "!=" turns round.
            if protocol in ("tcp", "udp"):
                yield Match(About.PROTOCOL, (protocol,))
            if protocol in ("ip", "ip6"):
                yield Match(About.VERSION, (_VERSIONS[protocol],))
            about = {
                "dport": About.PORT,
                "daddr": About.DESTINATION,
                "saddr": About.SOURCE,
                "protocol": About.PROTOCOL,
                "nexthdr": About.PROTOCOL,
            }.get(field, About.OTHER)
        case {"meta": {"key": key}}:
            about = _META.get(key, About.OTHER)
        case {"ct": {"key": "state"}}:
            about = About.STATE
        case {"ct": {"key": "status"}}:
            about = About.STATUS
        case {"fib": {"result": "type", "flags": flags}} if "daddr" in flags:
            about = About.DESTINATION_TYPE
    known = _READ.get(about, lambda value: value if isinstance(value, str) else None)
    read = tuple(known(value) for value in values)
    if about is About.OTHER or not read or None in read:
        yield Match(About.OTHER)
    else:
        yield Match(about, tuple(value for value in read if value is not None), negated)


def _values(right: Any) -> Iterator[Any]:
    match right:
        case {"set": list(members)} | list(members):
            for member in members:
                yield from _values(member)
        case {"elem": {"val": value}}:
            yield from _values(value)
        case {"|": list(members)}:
            for member in members:
                yield from _values(member)
        case _:
            yield right


def _port(value: Any) -> PortRange | None:
    match value:
        case int():
            return PortRange(value, value)
        case {"range": [int(first), int(last)]}:
            return PortRange(first, last)
    return None


def _network(value: Any) -> Value | None:
    try:
        match value:
            case str():
                return ip_network(value)
            case {"prefix": {"addr": address, "len": length}}:
                return ip_network(f"{address}/{length}", strict=False)
    except ValueError:
        return None
    return None


def _version(value: Any) -> Value | None:
    return value if isinstance(value, int) else _VERSIONS.get(value) if isinstance(value, str) else None


_READ = {About.PORT: _port, About.DESTINATION: _network, About.SOURCE: _network, About.VERSION: _version}


def _vmap(said: Item, place: tuple[str, str], maps: Any) -> Iterator[tuple[tuple[Match, ...], Item]]:
    """Each element of a verdict map, as matches and a verdict."""
    for key, verdict in _elements(said["data"], place, maps):
        yield tuple(_matches({"op": "==", "left": said["key"], "right": key})), verdict


def _elements(data: Any, place: tuple[str, str], maps: Any) -> Iterator[tuple[Any, Any]]:
    found = data.get("set", ()) if isinstance(data, dict) else maps.get((*place, str(data).removeprefix("@")), ())
    for element in found:
        if isinstance(element, list) and len(element) == 2:
            yield element[0], element[1]


def _lead(said: Item, place: tuple[str, str], maps: Any) -> Lead:
    address, port = said.get("addr"), said.get("port")
    if isinstance(address, dict) and "map" in address:
        targets = [value for _, value in _elements(address["map"]["data"], place, maps)]
        if len(targets) != 1:  # of several, which one depends on the key
            return Lead(known=False)
        (address,) = targets
    if isinstance(address, dict) and "concat" in address:
        address, port = address["concat"][:2]
    known = isinstance(address, str | None) and (port is None or _port(port) is not None)
    try:
        return Lead(ip_address(address) if isinstance(address, str) else None, _port(port), known)
    except ValueError:
        return Lead(known=False)
