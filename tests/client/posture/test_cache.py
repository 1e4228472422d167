"""A look that is kept: its age is true, or it is forgotten."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_client.posture import last
from spa_client.posture.cache import Cache, Looked
from spa_client.posture.findings import Finding, Findings, Name, Number
from spa_client.posture.last import Moment
from spa_protocol.knock import Knock
from spa_protocol.posture import Fact, PostureSource

FOUND = Findings(
    PostureSource.CLIENT,
    Finding(Fact.YES, "/sys"),
    Finding(Fact.UNKNOWN, "gsettings", "no desktop", "log in"),
    Finding(Fact.NO, "systemctl"),
    Finding(Fact.YES, "efivars"),
    Number(3, "dpkg"),
    Number(100, "/proc/uptime"),
    Name("debian 12", "os-release"),
)
THEN = Moment(1000.0, 1_800_000_000.0)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    kept = Cache(tmp_path / "state" / "posture")
    kept.write(FOUND, THEN)
    return kept


def after(elapsed_s: float, wall_s: float | None = None) -> Moment:
    return Moment(THEN.elapsed_s + elapsed_s, THEN.wall_s + (elapsed_s if wall_s is None else wall_s))


def test_a_look_comes_back_with_its_age(cache: Cache) -> None:
    assert cache.read(after(42)) == Looked(FOUND, 42)


@pytest.mark.file_modes
def test_only_its_user_reads_it(cache: Cache, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "state" / "posture").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_the_uptime_goes_on(cache: Cache) -> None:
    looked = cache.read(after(42))
    assert looked is not None
    assert looked.findings.posture(looked.age_s).uptime_s == 142


def test_what_a_knock_says_is_in_the_first_line(cache: Cache, tmp_path: Path) -> None:
    kept = (tmp_path / "state" / "posture").read_bytes()
    assert last.posture(kept, after(42)) == FOUND.posture(42)
    assert last.posture(kept.splitlines()[0], after(42)) == FOUND.posture(42)
    assert last.posture(kept, after(-900, 86_400)) is None


@pytest.mark.parametrize(
    ("elapsed_s", "wall_s", "age_s"),
    [
        (100, 100, 100),
        (100, 103, 103),
        (103, 100, 103),
        (0, 0, 0),
        (100, 3700, None),
        (100, -3500, None),
        (-900, 86_400, None),
        (-900, -900, None),
        (900, 87_000, None),
    ],
    ids=[
        "both clocks agree",
        "the wall clock ran ahead a little",
        "the wall clock was slow",
        "at once",
        "the wall clock was put forward",
        "the wall clock was put back",
        "the computer was started anew a day later",
        "both ran back",
        "started anew a day ago, and up longer than before",
    ],
)
def test_the_age_is_the_older_of_both_clocks_and_unknown_where_they_differ(
    cache: Cache, elapsed_s: float, wall_s: float, age_s: int | None
) -> None:
    looked = cache.read(after(elapsed_s, wall_s))
    assert (looked and looked.age_s) == age_s


@given(slept=st.floats(0, 1e6), step=st.floats(-1e6, 1e6), restarted=st.booleans(), up_s=st.floats(0, 1e6))
def test_no_clock_makes_a_look_younger_than_it_is(slept: float, step: float, restarted: bool, up_s: float) -> None:
    """`slept`: the true age; `step`: by how much the wall clock was set meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "posture")
        cache.write(FOUND, THEN)
        elapsed_s = min(up_s, slept) if restarted else THEN.elapsed_s + slept
        looked = cache.read(Moment(elapsed_s, THEN.wall_s + slept + step))
    # A clock set back by just what a restart hides is the one case left: then both agree on the same untruth.
    hidden = restarted and abs(elapsed_s - THEN.elapsed_s - slept - step) <= 61
    assert looked is None or hidden or looked.age_s >= int(slept) - 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 50_000,
        b"1 1000.0 1800000000.0 00\n{}",
        b"2 1000.0 1800000000.0 00\n{}",
        b"1 1000.0 1800000000.0 zz\n[]",
        b"1 1000.0 1800000000.0 " + b"0" * 10_000,
        b"1 1000.0 1800000000.0 00\n" + b"[" * 50_000,
    ],
)
def test_a_damaged_file_is_no_look(cache: Cache, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "state" / "posture").write_bytes(damage)
    assert cache.read(after(1)) is None
    assert last.posture(damage, after(1)) is None


@pytest.mark.parametrize("place", [1, 2], ids=["elapsed", "wall"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"x"', "null", "[]", "1" + "0" * 400])
def test_a_time_that_is_none_is_no_look(cache: Cache, tmp_path: Path, place: int, value: str) -> None:
    path = tmp_path / "state" / "posture"
    words = path.read_text().split(" ")
    words[place] = value
    path.write_text(" ".join(words))
    assert last.posture(path.read_bytes(), after(1)) is None
    assert cache.read(after(1)) is None


@given(data=st.data())
def test_a_file_cut_or_changed_anywhere_is_a_look_or_none(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posture"
        Cache(path).write(FOUND, THEN)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            del content[at:]
        else:
            content[at] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        looked = Cache(path).read(after(1))
        if looked is not None:
            # Whatever it is, a knock can say it.
            assert Knock(0, posture=looked.findings.posture(looked.age_s)).body()
        if (told := last.posture(bytes(content), after(1))) is not None:
            assert Knock(0, posture=told).body()


def test_what_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    kept = Cache(tmp_path / "state" / "posture")
    kept.write(FOUND, THEN)
    assert kept.read(after(1)) is None


def test_without_a_path_nothing_is_kept() -> None:
    Cache(None).write(FOUND, THEN)
    assert Cache(None).read(after(1)) is None
