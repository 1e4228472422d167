"""The `[risk]` table of server.toml: weights, thresholds, and where the operator's own lists are.

Knows the keys of that table; nothing of the rest of the file, nor what stands in the lists.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from spa_server.decide.risk import DEFAULT_WEIGHTS, MOST, Weights
from spa_server.networks import Network, network
from spa_server.toml_table import Bad, Table, absolute_path, flag, table, whole

THRESHOLDS = ("step_up_from", "refuse_from")
WEIGHTS = tuple(each.name for each in fields(Weights) if each.name not in THRESHOLDS)
LOCATION_SUFFIXES = (".csv", ".mmdb")


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """What of the configuration risk is judged by. Not `enabled`: every score is 0, and nothing is learnt of users."""

    enabled: bool = True
    weights: Weights = DEFAULT_WEIGHTS
    block: tuple[Network, ...] = ()
    block_file: Path | None = None
    location_file: Path | None = None


def read_risk(keys: Table) -> RiskSettings:
    """The settings; every problem is noted, and a default stands in for what was refused."""
    nothing: dict[str, object] = {}
    limits = {name: keys.one(name, whole(1, MOST), getattr(DEFAULT_WEIGHTS, name)) for name in THRESHOLDS}
    points = keys.under("weights", keys.one("weights", table, nothing))
    weights = {name: points.one(name, whole(0, MOST), getattr(DEFAULT_WEIGHTS, name)) for name in WEIGHTS}
    settings = RiskSettings(
        enabled=keys.one("enabled", flag, True),
        weights=Weights(**weights, **limits),
        block=keys.many("block", network, "networks"),
        block_file=_path(keys.one("block_file", absolute_path(), None)),
        location_file=_path(keys.one("location_file", _location_file, None)),
    )
    points.finish()
    keys.finish()
    _check(settings.weights, keys, points)
    return settings


def _check(weights: Weights, keys: Table, points: Table) -> None:
    if weights.step_up_from > weights.refuse_from:
        if keys.given("step_up_from"):
            keys.note("step_up_from", f"at most refuse_from, {weights.refuse_from}")
        else:
            keys.note("refuse_from", f"at least step_up_from, {weights.step_up_from}")
    # Points that nobody has signed for: on their own they must lead to nothing.
    if weights.invalid_knocks_most >= weights.step_up_from:
        what = "less than risk.step_up_from, {}"
        if points.given("invalid_knocks_most"):
            points.note("invalid_knocks_most", what.format(weights.step_up_from))
        elif keys.given("step_up_from"):
            keys.note("step_up_from", f"more than risk.weights.invalid_knocks_most, {weights.invalid_knocks_most}")


def _location_file(value: object) -> str:
    path = absolute_path()(value)
    if not path.endswith(LOCATION_SUFFIXES):
        raise Bad("the absolute path of a file whose name ends in .csv or .mmdb")
    return path


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
