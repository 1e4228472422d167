"""The operator's own lists: networks to be wary of, and where networks are."""

from __future__ import annotations

import builtins
import os
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from spa_server.config import ConfigError
from spa_server.decide.usual import Place
from spa_server.networks import NetworkMap, network
from spa_server.risk_lists import read_lists
from spa_server.risk_table import RiskSettings

BERLIN, PARIS, TOKYO = Place(52.52, 13.41), Place(48.86, 2.35), Place(35.68, 139.69)
CSV = """\
network,geoname_id,latitude,longitude,accuracy_radius
192.0.2.0/24,2950159,52.52,13.41,20
192.0.2.128/25,2988507,48.86,2.35,20
203.0.113.0/24,,,,
2001:db8::/32,1850147,35.68,139.69,50
"""


def where(path: Path, address: str) -> Place | None:
    return read_lists(RiskSettings(location_file=path)).locate(ip_address(address))


def is_blocked(settings: RiskSettings, address: str) -> bool:
    return read_lists(settings).blocked.get(ip_address(address)) is not None


def test_the_networks_of_the_table_and_those_of_the_file_are_blocked(tmp_path: Path) -> None:
    path = tmp_path / "block.txt"
    path.write_text("# ours\n\n198.51.100.0/24   # a remark\n2001:db8:bad::/48 ; SBL1\r\n203.0.113.7\n")
    settings = RiskSettings(block=(network("192.0.2.0/25"),), block_file=path)
    inside = "192.0.2.0", "192.0.2.127", "198.51.100.255", "2001:db8:bad:1::7", "203.0.113.7"
    outside = "192.0.2.128", "198.51.101.0", "2001:db8:bae::", "203.0.113.8", "::c000:200"
    assert all(is_blocked(settings, address) for address in inside)
    assert not any(is_blocked(settings, address) for address in outside)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"192.0.2.0/24\nexample.org\n", 'line 2: "example.org" is not allowed; it takes a network such as'),
        (b"192.0.2.1/24\n", "write this one as 192.0.2.0/24"),
        (b"\xff\xfe\n", "is not UTF-8 text"),
    ],
)
def test_a_block_list_with_a_mistake_is_no_list(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "block.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_lists(RiskSettings(block_file=path))
    assert said in str(caught.value)
    assert str(caught.value).startswith("block.txt: ")


def test_a_block_list_that_is_not_there_or_too_large_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_lists(RiskSettings(block_file=tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_lists(RiskSettings(block_file=tmp_path))
    large = tmp_path / "large.txt"
    large.touch()
    os.truncate(large, (64 << 20) + 1)
    with pytest.raises(ConfigError, match="larger than"):
        read_lists(RiskSettings(block_file=large))


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", BERLIN),
        ("192.0.2.200", PARIS),
        ("2001:db8:1::7", TOKYO),
        ("203.0.113.7", None),
        ("198.51.100.7", None),
        ("2001:db9::", None),
    ],
)
def test_an_address_is_where_the_smallest_network_around_it_is(
    tmp_path: Path, address: str, place: Place | None
) -> None:
    path = tmp_path / "places.csv"
    path.write_text(CSV)
    assert where(path, address) == place


@pytest.mark.parametrize("ip_version", [4, 6])
def test_a_database_in_maxminds_format_says_the_same(tmp_path: Path, ip_version: int) -> None:
    path = tmp_path / "places.mmdb"
    writer = MMDBWriter(ip_version=ip_version, ipv4_compatible=ip_version == 6)
    writer.insert_network(IPSet(["192.0.2.0/24"]), record(BERLIN))
    writer.insert_network(IPSet(["203.0.113.0/24"]), {"country": {"iso_code": "DE"}})
    if ip_version == 6:
        writer.insert_network(IPSet(["2001:db8::/32"]), record(TOKYO))
    writer.to_db_file(str(path))
    assert where(path, "192.0.2.7") == BERLIN
    assert where(path, "203.0.113.7") is None
    assert where(path, "198.51.100.7") is None
    assert where(path, "2001:db8::7") == (TOKYO if ip_version == 6 else None)


def record(place: Place) -> dict[str, Any]:
    return {"location": {"latitude": place.latitude, "longitude": place.longitude, "accuracy_radius": 20}}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("places.csv", b"", "has no column network"),
        ("places.csv", b"network,lat,lon\n192.0.2.0/24,1,2\n", "has no column latitude"),
        ("places.csv", b"network,latitude,longitude\nhere,1,2\n", "line 2: a network such as"),
        ("places.csv", b"network,latitude,longitude\n192.0.2.0/24,91,2\n", "line 2: 91.0, 2.0 is no place"),
        ("places.csv", b"network,latitude,longitude\n192.0.2.0/24,nan,2\n", "line 2: nan, 2.0 is no place"),
        ("places.csv", b"network,latitude,longitude\n192.0.2.0/24,north,2\n", "line 2: could not convert"),
        ("places.csv", b"network,latitude,longitude\n192.0.2.0/24,1\n192.0.3.0/24,x,2\n", "line 3: could not"),
        ("places.csv", b"\xff\xfe", "is not UTF-8 text"),
        ("places.mmdb", b"no database", "cannot be read: "),
        ("places.mmdb", b"", "cannot be read: "),
    ],
)
def test_locations_that_cannot_be_read_are_warned_of_and_there_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert where(path, "192.0.2.7") is None
    assert "no knock is judged by where it comes from" in caplog.text
    assert said in caplog.text


@pytest.mark.parametrize("name", ["places.csv", "places.mmdb"])
def test_locations_that_are_not_there_are_warned_of_and_there_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    assert where(tmp_path / name, "192.0.2.7") is None
    assert "No such file" in caplog.text


def test_a_database_without_the_library_for_it_says_what_installs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "maxminddb":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert where(tmp_path / "places.mmdb", "192.0.2.7") is None
    assert "install spa-perimeter[server,geo]" in caplog.text


addresses = st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="2001:db8::/32") | st.ip_addresses()


@given(st.lists(st.tuples(addresses, st.integers(0, 128)), max_size=20), addresses)
def test_the_map_finds_what_looking_at_every_network_finds(given_networks: list[Any], asked: Any) -> None:
    found = [
        ip_network((address, min(length, address.max_prefixlen)), strict=False) for address, length in given_networks
    ]
    around = [each for each in found if each.version == asked.version and asked in each]
    smallest = max(around, key=lambda each: each.prefixlen, default=None)
    assert NetworkMap((each, str(each)) for each in found).get(asked) == (None if smallest is None else str(smallest))
