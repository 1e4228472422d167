"""Who holds a perimeter open: over processes, however they end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from spa_client import holders
from spa_client.holders import Holders, unneeded

HOLD = """
import sys
from pathlib import Path
from spa_client.holders import Holders
holder = Holders(Path(sys.argv[1])).enter(tuple(sys.argv[2:]))
print("held", flush=True)
sys.stdin.read()
"""


def hold_elsewhere(folder: Path, *services: str) -> subprocess.Popen[str]:
    """Another process that holds; it never leaves properly."""
    words = [sys.executable, "-c", HOLD, str(folder), *services]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(
    ("own", "others", "shut"),
    [
        ((), [], ()),
        ((), [("web",)], None),
        ((), [()], None),
        (("web",), [], ("web",)),
        (("web",), [("ssh",)], ("web",)),
        (("web",), [("ssh",), ("web", "db")], None),
        (("web", "ssh"), [("ssh",)], ("web",)),
        (("web",), [()], None),
    ],
)
def test_what_nobody_else_needs_may_be_shut(
    own: tuple[str, ...], others: list[tuple[str, ...]], shut: tuple[str, ...] | None
) -> None:
    assert unneeded(own, others) == shut


def test_another_process_keeps_the_door_open(tmp_path: Path) -> None:
    ours = Holders(tmp_path).enter(())
    with hold_elsewhere(tmp_path, "web") as other:
        with ours.leave() as shut:
            assert shut is None
        other.communicate("")


def test_one_that_was_killed_holds_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ours = Holders(tmp_path).enter(())
    with hold_elsewhere(tmp_path) as other:
        other.kill()
        other.communicate()
    with ours.leave() as shut:
        assert shut == ()
    assert [path.name for path in tmp_path.iterdir()] == ["guard"]


def test_nobody_comes_in_while_a_door_is_being_shut(tmp_path: Path) -> None:
    ours = Holders(tmp_path).enter(())
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with ours.leave() as shut:
        assert shut == ()
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.7)
            assert [path.name for path in tmp_path.iterdir()] == ["guard"]
            other.kill()


def test_a_guard_that_is_never_free_shuts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Holders(tmp_path).enter(()), Holders(tmp_path).enter(())
    monkeypatch.setattr(holders, "_PATIENCE_S", 0.1)
    with first.leave(), second.leave() as shut:
        assert shut is None


def test_where_no_account_can_be_kept_nothing_is_shut(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (None, tmp_path / "file" / "folder"):
        with Holders(folder).enter(()).leave() as shut:
            assert shut is None


def test_a_knock_that_nobody_holds_keeps_its_services_open_for_its_time(tmp_path: Path) -> None:
    kept = Holders(tmp_path)
    ours = kept.enter(("web", "ssh"))
    kept.left_open(("web",), time.time() + 60)
    kept.left_open(("ssh",), time.time() - 1)
    with ours.leave() as shut:
        assert shut == ("ssh",)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("until-")] != []
    with kept.enter(()).leave() as shut:
        assert shut is None, "what was noted is among all"


def test_a_note_is_gone_when_its_time_is_over(tmp_path: Path) -> None:
    kept = Holders(tmp_path)
    kept.left_open(("web",), time.time() - 1)
    with kept.enter(()).leave() as shut:
        assert shut == ()
    assert [path.name for path in tmp_path.iterdir()] == ["guard"]
