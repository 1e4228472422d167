"""What iptables-save(8) and ip6tables-save print, read into rules.

nft shows these tables too, yet hides what their extensions say, and does not show those of iptables-legacy at all.
Pure: the text is an argument.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from spa_server.examine.rules import About, Chain, Lead, Match, Rule, Value, Verdict
from spa_server.service import Address, PortRange

_HOOKS = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}
_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_VERDICTS = {
    "ACCEPT": Verdict.ACCEPT,
    "DROP": Verdict.DROP,
    "REJECT": Verdict.DROP,
    "RETURN": Verdict.RETURN,
}
_NO_VERDICT = ("LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "SET", "ULOG", "CLASSIFY", "CHECKSUM", "TRACE", "AUDIT")
_SETTLED = ("tcp", "udp", "comment", "conntrack", "state", "addrtype", "multiport")
"""Extensions whose options are read below, or change nothing."""


def saved_chains(text: str, program: str) -> tuple[Chain, ...]:
    """The chains of a saved ruleset. `program` is the command that manages it: iptables, ip6tables-legacy, ..."""
    return tuple(_chains(text, program))


def _chains(text: str, program: str) -> Iterator[Chain]:
    family = "ip6" if program.startswith("ip6") else "ip"
    table = ""
    chains: dict[str, Chain] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table, chains = line[1:].strip(), {}
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            hook = _HOOKS.get(name, "") if policy != "-" else ""
            chains[name] = Chain(
                family,
                table,
                name,
                hook=hook,
                priority=_PRIORITIES.get(table, 0),
                kind="nat" if table == "nat" else "filter",
                policy=policy.lower() if hook else "accept",
                program=program,
            )
        elif line.startswith("-A "):
            name, rule = _rule(line, table, program)
            if name in chains:
                chains[name] = replace(chains[name], rules=(*chains[name].rules, rule))
        elif line.startswith("COMMIT"):
            yield from chains.values()


def _rule(line: str, table: str, program: str) -> tuple[str, Rule]:
    _, name, *words = shlex.split(line)
    of_table = "" if table == "filter" else f" -t {table}"
    rule = Rule((), text=f"{program}{of_table} {line}", delete=f"{program}{of_table} -D {line.removeprefix('-A ')}")
    negated = False
    while words:
        option, *words = words
        if option == "!":
            negated = True
            continue
        values: list[str] = []
        while words and not (words[0].startswith("-") and len(words[0]) > 1) and words[0] != "!":
            values.append(words.pop(0))
        if option in ("-j", "-g"):
            return name, _with_target(rule, option, " ".join(values), words)
        matches = tuple(_matches(option, values, negated))
        rule = replace(rule, matches=rule.matches + matches)
        negated = False
    return name, rule


def _matches(option: str, values: list[str], negated: bool) -> Iterator[Match]:
    value = values[0] if values else ""
    match option:
        case "-p" if value != "all":
            yield Match(About.PROTOCOL, (value,), negated)
        case "-i" | "-o":
            about = About.INTERFACE if option == "-i" else About.OUT_INTERFACE
            yield Match(about, (value.removesuffix("+") + "*" if value.endswith("+") else value,), negated)
        case "-d" | "-s":
            about = About.DESTINATION if option == "-d" else About.SOURCE
            yield Match(about, tuple(_networks(value)), negated)
        case "--dport" | "--dports" | "--destination-port":
            yield Match(About.PORT, tuple(_ports(value)), negated)
        case "--ctstate" | "--state":
            states = tuple(state.lower() for state in value.split(","))
            if states == ("dnat",):
                yield Match(About.STATUS, states, negated)
            else:
                yield Match(About.STATE, states, negated)
        case "--dst-type":
            yield Match(About.DESTINATION_TYPE, tuple(value.lower().split(",")), negated)
        case "-m" if value in _SETTLED:
            return
        case "--comment":
            return
        case "-p":
            return
        case _:
            yield Match(About.OTHER)


def _with_target(rule: Rule, option: str, target: str, words: list[str]) -> Rule:
    options = _options(words)
    if target == "REDIRECT":
        return replace(rule, verdict=Verdict.ACCEPT, lead=Lead(ports=_range(options.get("--to-ports", ""))))
    if target == "DNAT":
        return replace(rule, verdict=Verdict.ACCEPT, lead=_destination(options.get("--to-destination", "")))
    if target == "NETMAP":
        return replace(rule, verdict=Verdict.ACCEPT, lead=Lead(known=False))
    if target == "TPROXY":
        return replace(rule, verdict=Verdict.ACCEPT, lead=Lead(ports=_range(options.get("--on-port", ""))))
    if target == "NOTRACK" or (target == "CT" and "--notrack" in options):
        return replace(rule, untracked=True)
    if target in _VERDICTS:
        return replace(rule, verdict=_VERDICTS[target])
    if target.isupper() and (target in _NO_VERDICT or target == "CT"):
        return rule
    return replace(rule, verdict=Verdict.GOTO if option == "-g" else Verdict.JUMP, target=target)


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word
            found[name] = ""
        elif name:
            found[name] = word
    return found


def _destination(text: str) -> Lead:
    """`10.0.0.1:80`, `[fd00::1]:80-81`, `fd00::1`, `:80`."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    first = host.split("-")[0]
    address = _address(first)
    return Lead(address, _range(port.split("/")[0]), known=not (first and address is None) and "-" not in host)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _networks(text: str) -> Iterator[Value]:
    for each in text.split(","):
        yield ip_network(each, strict=False)


def _ports(text: str) -> Iterator[Value]:
    for each in text.split(","):
        ports = _range(each.replace(":", "-"))
        if ports is not None:
            yield ports


def _range(text: str) -> PortRange | None:
    first, _, last = text.partition("-")
    return PortRange(int(first), int(last or first)) if first.isdigit() else None
