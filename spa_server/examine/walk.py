"""Following a packet through other tables' rules: is it dropped, by which rule, and which rules might have let it in?

A match that a packet's kind does not settle, as its source, is taken not to hold: what remains is what befalls a
client of whom nothing is known. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spa_server.examine.rules import Chain, Packet, Rule, RuleBook, Verdict


@dataclass(frozen=True, slots=True)
class Drop:
    """Where a packet ends: the base chain through which it came, the chain, and its rule; None for the policy."""

    base: Chain
    chain: Chain
    rule: Rule | None
    exceptions: tuple[Rule, ...]
    """Rules that let some such packets in, by something that is not known here."""


@dataclass(slots=True)
class _Way:
    exceptions: list[Rule] = field(default_factory=list)
    dropped_by: Rule | None = None
    dropped_in: Chain | None = None


def dropped(book: RuleBook, packet: Packet, hooks: Sequence[str]) -> Drop | None:
    """Where the packet is dropped on its way through the hooks; None when it passes."""
    for hook in hooks:
        for base in book.based_at(hook, packet.version):
            if base.kind == "nat" or (base.devices and packet.interface not in base.devices):
                continue
            way = _Way()
            verdict = _follow(book, base, packet, way, 0)
            if verdict is Verdict.DROP:
                return Drop(base, way.dropped_in or base, way.dropped_by, tuple(way.exceptions))
            if verdict is not Verdict.ACCEPT and base.policy == "drop":
                return Drop(base, base, None, tuple(way.exceptions))
    return None


def _follow(book: RuleBook, chain: Chain, packet: Packet, way: _Way, depth: int) -> Verdict:
    """ACCEPT, DROP, or GO_ON where the chain ends without either."""
    if depth > 16:  # the kernel's own limit
        return Verdict.GO_ON
    for rule in chain.rules:
        holds = rule.holds(packet)
        if holds is None and rule.verdict is Verdict.ACCEPT:
            way.exceptions.append(rule)
        if not holds:
            continue
        if rule.verdict in (Verdict.ACCEPT, Verdict.DROP):
            if rule.verdict is Verdict.DROP:
                way.dropped_by, way.dropped_in = rule, chain
            return rule.verdict
        if rule.verdict is Verdict.RETURN:
            return Verdict.GO_ON
        if rule.verdict in (Verdict.JUMP, Verdict.GOTO):
            target = book.chain(chain, rule.target)
            found = _follow(book, target, packet, way, depth + 1) if target else Verdict.GO_ON
            if found is not Verdict.GO_ON or rule.verdict is Verdict.GOTO:
                return found
    return Verdict.GO_ON
