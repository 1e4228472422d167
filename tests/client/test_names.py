"""What perimeters are called on this computer: renaming one, and the one that is meant where none is named."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from spa_client.commands import run
from spa_client.enrol import join
from spa_client.errors import BadConfiguration, BadUsage
from spa_client.exchange import wall_ms
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from tests.client.gatekeeper import Gatekeeper

Captured = pytest.CaptureFixture[str]
Joined = Callable[[str], Perimeter]


@pytest.fixture
def joined(server: Gatekeeper, store: Store) -> Joined:
    """Join the server once more, under that name."""
    return lambda name: join(server.invite().text(), store=store, name=name)


class TestRenaming:
    """Nothing but the name changes."""

    def test_the_perimeter_is_the_same_under_its_new_name(self, office: Perimeter, store: Store) -> None:
        assert run(["rename", "office", "work"]) == 0
        assert store.names() == ("work",)
        assert store.load("work").device_text == office.device_text
        assert run(["knock", "work"]) == 0

    def test_slots_that_were_used_stay_used(self, office: Perimeter, store: Store) -> None:
        now_ms = wall_ms()
        before = {store.memory("office", 8).slots.claim(now_ms) for _ in range(4)}
        store.rename("office", "work")
        after = {store.memory("work", 8).slots.claim(now_ms) for _ in range(4)}
        assert not before & after

    def test_a_name_that_is_taken_is_left_alone(self, joined: Joined, store: Store) -> None:
        joined("office"), joined("home")
        keys = {name: store.load(name).device_text for name in store.names()}
        with pytest.raises(BadUsage, match="there is a perimeter named home already"):
            store.rename("office", "home")
        with pytest.raises(BadUsage, match="already"):
            store.rename("office", "office")
        assert {name: store.load(name).device_text for name in store.names()} == keys

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "Work", ".default", "-x", "x" * 64])
    def test_what_cannot_be_a_name_is_refused(self, name: str, office: Perimeter, store: Store) -> None:
        with pytest.raises(BadUsage, match="cannot name a perimeter"):
            store.rename("office", name)
        assert store.names() == ("office",)

    def test_what_is_not_joined_cannot_be_renamed(self, office: Perimeter, store: Store) -> None:
        with pytest.raises(BadConfiguration, match="joined: office"):
            store.rename("home", "work")

    def test_it_stays_the_default(self, joined: Joined, store: Store) -> None:
        joined("office"), joined("home")
        store.choose_default("office")
        store.rename("office", "work")
        assert store.default_name() == "work"

    def test_another_default_is_none_of_its_business(self, joined: Joined, store: Store) -> None:
        joined("office"), joined("home")
        store.choose_default("home")
        store.rename("office", "work")
        assert store.default_name() == "home"

    def test_it_is_told_as_json(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["rename", "office", "work", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"renamed": "office", "name": "work"}


class TestTheDefault:
    """The perimeter that is meant where none is named."""

    def test_the_only_one_needs_no_choice(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["default"]) == 0
        assert capsys.readouterr().out == "office\n"

    def test_of_several_the_one_chosen_is_meant(
        self, joined: Joined, server: Gatekeeper, store: Store, capsys: Captured
    ) -> None:
        joined("office"), joined("home")
        assert run(["default", "home"]) == 0
        capsys.readouterr()
        assert run(["knock", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["perimeter"] == "home"
        assert run(["show", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "home"

    def test_without_a_choice_of_several_the_error_says_how_to_choose(
        self, joined: Joined, store: Store, capsys: Captured
    ) -> None:
        joined("office"), joined("home")
        for arguments in (["knock"], ["default"], ["show"]):
            assert run(arguments) == 5
            assert "spa-client default NAME" in capsys.readouterr().err

    def test_the_choice_can_be_taken_back(self, joined: Joined, store: Store, capsys: Captured) -> None:
        joined("office"), joined("home")
        store.choose_default("home")
        assert run(["default", "--none", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"default": None}
        assert run(["knock"]) == 5
        assert run(["default", "--none"]) == 0

    def test_only_what_is_joined_can_be_chosen(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["default", "home"]) == 5
        assert "no perimeter named home (joined: office)" in capsys.readouterr().err
        assert run(["default", "office", "--none"]) == 2

    def test_with_the_perimeter_its_choice_is_gone(self, joined: Joined, store: Store) -> None:
        joined("office"), joined("home"), joined("lab")
        store.choose_default("home")
        store.remove("home")
        joined("home")
        with pytest.raises(BadConfiguration, match="several"):
            store.default_name()

    @pytest.mark.parametrize("content", [b"", b"nowhere\n", b"\xff\xfe", b"../office", b"office\nhome\n"])
    def test_a_damaged_choice_is_no_choice(self, content: bytes, joined: Joined, store: Store) -> None:
        joined("office"), joined("home")
        (store.folder / ".default").write_bytes(content)
        with pytest.raises(BadConfiguration, match="several"):
            store.default_name()

    def test_the_list_marks_it(self, joined: Joined, store: Store, capsys: Captured) -> None:
        joined("office"), joined("home")
        store.choose_default("home")
        assert run(["list"]) == 0
        home, office = capsys.readouterr().out.splitlines()
        assert home.endswith("  (default)")
        assert not office.endswith("(default)")
        assert run(["list", "--json"]) == 0
        assert {row["name"]: row["default"] for row in json.loads(capsys.readouterr().out)} == {
            "home": True,
            "office": False,
        }
