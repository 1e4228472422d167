"""The operator's own lists that risk is judged by, read once: networks to be wary of, and where networks are.

A block list that cannot be read is a mistake like one in server.toml. Locations are an extra: without them, or where
they cannot be read, there is a warning and no knock is judged by them. It must not know what follows from either.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from spa_server.config import ConfigError
from spa_server.decide.usual import Place
from spa_server.networks import Network, NetworkMap, network
from spa_server.risk_table import RiskSettings
from spa_server.service import Address
from spa_server.toml_table import Bad, Problem, say

LARGEST_FILE = 64 << 20
"""Of a list of text: what is longer takes too much memory; for places there is the other format."""
_COLUMNS = ("network", "latitude", "longitude")

Locate = Callable[[Address], Place | None]

_log = logging.getLogger("spa.risk")


class _Unreadable(Exception):
    """A list cannot be read; the message says why."""


def nowhere(_address: Address) -> Place | None:
    """Where an address is when there are no locations: it is not known."""
    return None


@dataclass(frozen=True, slots=True)
class RiskLists:
    """`blocked`: networks to be wary of; `locate`: where an address is, None where that is not known."""

    blocked: NetworkMap[bool] = field(default_factory=NetworkMap)
    locate: Locate = nowhere


def read_lists(settings: RiskSettings) -> RiskLists:
    """The lists that the settings name. Raises ConfigError for a block list that cannot be read."""
    networks = list(settings.block)
    if settings.block_file is not None:
        try:
            networks += _read_networks(settings.block_file)
        except _Unreadable as error:
            raise ConfigError(settings.block_file, (Problem("", "", str(error)),)) from error
    return RiskLists(NetworkMap((each, True) for each in networks), _locations(settings.location_file))


def _locations(path: Path | None) -> Locate:
    if path is None:
        return nowhere
    try:
        return _read_database(path) if path.suffix == ".mmdb" else _read_places(path).get
    except _Unreadable as error:
        _log.warning("no knock is judged by where it comes from: %s", error)
        return nowhere


def _read_networks(path: Path) -> list[Network]:
    """One network or address a line; `#` and `;` begin a remark."""
    found = []
    with _text(path) as file:
        for number, line in enumerate(_lines(file, path), 1):
            said = line.split("#")[0].split(";")[0].strip()
            if said:
                try:
                    found.append(network(said))
                except Bad as error:
                    raise _Unreadable(f"line {number}: {say(said)} is not allowed; it takes {error}") from None
    return found


def _read_places(path: Path) -> NetworkMap[Place]:
    """Comma-separated values with at least the columns network, latitude and longitude; others are passed over."""
    with _text(path) as file:
        rows = csv.DictReader(_lines(file, path))
        try:
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise _Unreadable(f"{path} has no column {missing[0]}; its first line names {', '.join(_COLUMNS)}")
            return NetworkMap(_places(rows, path))
        except csv.Error as error:
            raise _Unreadable(f"{path}: line {rows.line_num}: {error}") from error


def _places(rows: csv.DictReader[str], path: Path) -> Iterator[tuple[Network, Place]]:
    for row in rows:
        if not row["latitude"] or not row["longitude"]:
            continue  # a network whose place the database does not know
        try:
            yield network(row["network"]), _place(float(row["latitude"]), float(row["longitude"]))
        except ValueError as error:  # Bad is one
            raise _Unreadable(f"{path}: line {rows.line_num}: {error}") from None


def _read_database(path: Path) -> Locate:
    """A database in MaxMind's format (https://maxmind.github.io/MaxMind-DB/) whose records have a `location`."""
    try:
        import maxminddb  # an extra that few need
    except ImportError:
        raise _Unreadable("a .mmdb file takes the extra geo; install spa-perimeter[server,geo]") from None
    try:
        # In memory, so that a file that is written over in place cannot end the process.
        reader = maxminddb.open_database(str(path), maxminddb.MODE_MEMORY)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise _Unreadable(f"{path} cannot be read: {error}") from error

    def locate(address: Address) -> Place | None:
        try:
            record = reader.get(address)
            place = record["location"] if isinstance(record, dict) else None
            return _place(place["latitude"], place["longitude"]) if isinstance(place, dict) else None
        except (KeyError, TypeError, ValueError, maxminddb.InvalidDatabaseError):
            return None  # an IPv6 address in a database of IPv4, or a record without a place

    return locate


def _place(latitude: object, longitude: object) -> Place:
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        raise ValueError("a place has a latitude and a longitude")  # noqa: TRY004 - one fault for all bad rows
    if not -90 <= latitude <= 90 or not -180 <= longitude <= 180:
        raise ValueError(f"{latitude}, {longitude} is no place; degrees run to 90 north and south, 180 east and west")
    return Place(float(latitude), float(longitude))


def _text(path: Path) -> IO[str]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise _Unreadable(f"{path} is larger than {LARGEST_FILE} bytes")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise _Unreadable(f"{path} cannot be read: {error.strerror}") from error


def _lines(file: IO[str], path: Path) -> Iterable[str]:
    try:
        yield from file
    except UnicodeDecodeError:
        raise _Unreadable(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise _Unreadable(f"{path} cannot be read: {error.strerror}") from error
