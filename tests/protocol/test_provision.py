"""The line that hands a device to its owner: what goes in comes out, and anything else is refused with a sentence."""

from __future__ import annotations

import json

import pytest

from spa_protocol.place import Place
from spa_protocol.provision import Provision
from spa_protocol.signature import VerifyingKey
from spa_protocol.text import BadText

GIVEN = Provision(
    "build-1",
    VerifyingKey(bytes(range(32)), "ssh:"),
    bytes(32),
    bytes(range(1, 33)),
    Place((62201, 443), ("gw", "::1")),
)


def test_what_goes_in_comes_out_of_one_line() -> None:
    assert "\n" not in GIVEN.text()
    assert Provision.parse(GIVEN.text()) == GIVEN


def test_the_secret_may_be_left_out_and_is_never_shown() -> None:
    without = Provision(GIVEN.label, GIVEN.key, None, GIVEN.server_identity, GIVEN.place)
    assert Provision.parse(without.text()) == without
    assert json.loads(GIVEN.text())["gate_secret"] not in repr(GIVEN)


@pytest.mark.parametrize("text", ["", "[]", "{", "7", "{}", "[" * 100_000])
def test_what_is_no_provision_is_refused(text: str) -> None:
    with pytest.raises(BadText):
        Provision.parse(text)


WRONG: dict[str, list[object]] = {
    "label": [None, "", "no good", 7],
    "public_key": [None, "spa-device1qq", "spa-server1"],
    "gate_secret": [7, "SPA-GATE-SECRET-1QQ"],
    "server_identity": [None, "x"],
    "hosts": [None, [], "gw", [7], ["no good"], ["a"] * 5],
    "knock_ports": [None, [], [0], [True], ["7"], [70000], [1, 1]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(BadText):
        Provision.parse(json.dumps({**json.loads(GIVEN.text()), name: value}))


def test_what_cannot_be_said_is_not_written() -> None:
    for place in (Place((), ("gw",)), Place((1,), ())):
        with pytest.raises(ValueError, match="named"):
            Provision(GIVEN.label, GIVEN.key, GIVEN.gate_secret, GIVEN.server_identity, place).text()
