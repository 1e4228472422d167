"""The very command that lets packets through another firewall, in that firewall's own words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spa_server.examine.rules import Chain, RuleBook
from spa_server.examine.walk import Drop
from spa_server.service import Address, PortRange

FIREWALLD = "firewalld"
UFW_CHAINS = ("ufw-before-input", "ufw6-before-input")
ANSWERS_NFT = "ct state established,related accept"
ANSWERS_IPTABLES = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


@dataclass(frozen=True, slots=True)
class Opening:
    """Packets that other tables have to let through: to this host, or to `destination` behind it.

    Without `ports` these are a leased connection's answers.
    """

    service: str
    protocol: str
    ports: PortRange | None
    version: int
    destination: Address | None = None
    translated: bool = False
    entry: PortRange | None = None
    """The ports by which it comes in, where its destination is translated on the way."""


def manager(book: RuleBook, chain: Chain) -> str:
    """Who writes a chain's table: firewalld, ufw, or else nobody that is known."""
    if chain.table == FIREWALLD:
        return FIREWALLD
    if any(book.chain(chain, name) for name in UFW_CHAINS):
        return "ufw"
    return ""


def command(book: RuleBook, drops: Sequence[Drop], wanted: Sequence[Opening]) -> str:
    """What lets the openings through the base chain in which they were dropped."""
    base = drops[0].base
    for_ports = [each for each in wanted if each.ports is not None]
    written = manager(book, base)
    if written == FIREWALLD and for_ports:
        return _firewalld(drops, for_ports)
    if written == "ufw" and for_ports and base.hook != "output":
        return " && ".join(dict.fromkeys(map(_ufw, for_ports)))
    return " && ".join(dict.fromkeys(_insert(base, each) for each in wanted))


def _firewalld(drops: Sequence[Drop], wanted: Sequence[Opening]) -> str:
    here = [each for each in wanted if each.destination is None]
    commands = []
    ports = " ".join(dict.fromkeys(f"--add-port={each.ports}/{each.protocol}" for each in here))
    for zone in dict.fromkeys(_zones(drops)) if here else ():
        commands.append(f"firewall-cmd --permanent{f' --zone={zone}' if zone else ''} {ports}")
    rules = " ".join(f"--add-rich-rule='{_rich_rule(each)}'" for each in wanted if each.destination is not None)
    if rules:
        commands.append(
            "{ firewall-cmd --permanent --new-policy spa; firewall-cmd --permanent --policy spa "
            f"--add-ingress-zone ANY --add-egress-zone ANY {rules}; }}"
        )
    return " && ".join((*commands, "firewall-cmd --reload"))


def _zones(drops: Iterable[Drop]) -> Iterable[str]:
    """The zones whose chains dropped: firewalld names the chains for them."""
    for drop in drops:
        _, found, zone = drop.chain.name.partition("filter_IN_")
        yield zone if found else ""


def _rich_rule(each: Opening) -> str:
    return (
        f'rule family="ipv{each.version}" destination address="{each.destination}" '
        f'port port="{each.ports}" protocol="{each.protocol}" accept'
    )


def _ufw(each: Opening) -> str:
    if each.destination is not None:
        return f"ufw route allow proto {each.protocol} to {each.destination} port {colon(each.ports)}"
    return f"ufw allow {colon(each.ports)}/{each.protocol}"


def colon(ports: PortRange | None) -> str:
    """Ports as ufw and iptables write them."""
    return str(ports).replace("-", ":")


def _insert(base: Chain, each: Opening) -> str:
    if base.program:
        place = "" if base.table == "filter" else f" -t {base.table}"
        head = f"{base.program}{place} -I {base.name}"
        if each.ports is None:
            return f"{head} {ANSWERS_IPTABLES}"
        to = f" -d {each.destination}" if each.destination else ""
        return f"{head}{to} -p {each.protocol} --dport {colon(each.ports)} -j ACCEPT"
    head = f"nft insert rule {base.family} {base.table} {base.name}"
    if each.ports is None:
        return f"{head} {ANSWERS_NFT}"
    to = f" {'ip6' if each.version == 6 else 'ip'} daddr {each.destination}" if each.destination else ""
    return f"{head}{to} {each.protocol} dport {each.ports} accept"
