"""The examination of one perimeter, in the order in which a knock meets things: files, key, name, way, answer, port."""

from __future__ import annotations

from collections.abc import Iterator

from spa_client.addresses import resolve
from spa_client.errors import SpaError
from spa_client.examine.answers import (
    clock_findings,
    keep_clock_note,
    outcome_findings,
    past_finding,
    remembered_clock_finding,
    when,
)
from spa_client.examine.files import read_perimeter
from spa_client.examine.findings import Finding, Severity, worst, worst_first
from spa_client.examine.keys import key_findings
from spa_client.examine.knocks import Round, knock_all
from spa_client.examine.paths import (
    family_findings,
    port_findings,
    silence_finding,
    translation_findings,
)
from spa_client.examine.ports import Door, door_findings
from spa_client.examine.proxies import proxy_findings
from spa_client.exchange import wall_ms
from spa_client.memory import Memory
from spa_client.perimeter import Perimeter
from spa_client.storage import Store


def examine(store: Store, name: str, timeout_s: float) -> tuple[Finding, ...]:
    """All that was found about a perimeter, the worst first. Raises BadConfiguration where there is none."""
    perimeter, about_files = read_perimeter(store, name)
    found = [*about_files]
    if perimeter is not None:
        found += key_findings(perimeter.place)
    if perimeter is not None and worst(found) < Severity.FAULT:
        try:
            for finding in _knocked(perimeter, store.memory(name, perimeter.slots), timeout_s):
                # What was found before a fault stays found.
                found.append(finding)
        except SpaError as error:
            found.append(_stopped(error))
    return worst_first(found)


def _stopped(error: SpaError) -> Finding:
    """What ended the examination: an unknown name, no knock left in this minute, a source that makes no sense."""
    return Finding("cannot-knock", Severity.FAULT, error.sentence)


def _knocked(perimeter: Perimeter, memory: Memory, timeout_s: float) -> Iterator[Finding]:
    past = memory.refusal.read()
    rounds = _find_way(perimeter, memory, timeout_s)
    good = next((each for each in rounds if each.answered), rounds[0])
    yield from family_findings(good)
    if not perimeter.answers:
        yield Finding("never-answers", Severity.NOTE, "this server never answers knocks; only its ports were tried")
        yield from door_findings(_unconfirmed(perimeter, good), timeout_s)
        return
    if not good.answered:
        if (skew_ms := memory.clock.skew_ms(wall_ms())) is not None:
            yield remembered_clock_finding(skew_ms)
        if good.replies:
            refusal = f"; the last refusal was at {when(past)}: {past.sentence}" if past else ""
            yield silence_finding(rounds, perimeter.label, refusal)
        return
    yield from port_findings(rounds[0], rounds[1:])
    memory.port.write(good.port, perimeter.knock_port)
    yield from outcome_findings(perimeter, good)
    yield from clock_findings(good)
    keep_clock_note(memory.clock, good)
    if past is not None and not good.refused:
        yield past_finding(past)
    doors = _doors(good)
    if doors:
        rounds_seen = [good]
        if perimeter.signer.every_time:
            # A network that changes addresses shows it only to whoever asks twice.
            targets = [reply.target for reply, _ in good.answered]
            rounds_seen.append(knock_all(perimeter, memory, targets, timeout_s))
        yield from translation_findings(rounds_seen)
        yield from door_findings(doors, timeout_s)
        yield from proxy_findings(perimeter.hosts)


def _find_way(perimeter: Perimeter, memory: Memory, timeout_s: float) -> list[Round]:
    """Rounds of knocks, one port after the other, until one is answered."""
    if not perimeter.answers:
        return [knock_all(perimeter, memory, resolve(perimeter.hosts, *perimeter.knock_ports), timeout_s)]
    rounds: list[Round] = []
    for port in perimeter.knock_ports:
        rounds.append(knock_all(perimeter, memory, resolve(perimeter.hosts, port), timeout_s))
        if rounds[-1].answered:
            break
    return rounds


def _doors(tried: Round) -> tuple[Door, ...]:
    return tuple(
        Door(service.name, reply.target.address, service.tcp_port, reply.local, answer.seen)
        for reply, answer in tried.answered
        for service in answer.services
        if answer.refusal is None and service.tcp_port
    )


def _unconfirmed(perimeter: Perimeter, tried: Round) -> tuple[Door, ...]:
    return tuple(
        Door(service.name, reply.target.address, service.tcp_port, reply.local, reply.local)
        for reply in tried.replies
        for service in perimeter.services
        if service.tcp_port
    )
