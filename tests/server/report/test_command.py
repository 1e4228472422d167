"""`spa-server report`: where the page is written, for whom, and what stops it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_server.commands import run
from spa_server.commands.report import write_private
from spa_server.report import page  # noqa: F401 - others than root may not be able to import it later
from tests.end_to_end.running import open_folder
from tests.server.report.reader import read
from tests.server.report.trails import START_MS, knock, write

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture
def config(folder: Path) -> Path:
    state = folder / "state"
    state.mkdir(mode=0o700)
    os.chown(state, NOBODY, NOBODY)
    path = folder / "server.toml"
    path.write_text(
        f'[server]\naddresses = ["gw.example.org"]\nstate_folder = "{state}"\n'
        f'control_socket = "{folder}/control.sock"\n[service.web]\ntcp = [8443]\nroles = ["admin"]\n'
    )
    write(state / "audit.jsonl", (knock(), START_MS + 1000), (knock(reason="stale"), START_MS + 2000))
    (state / "audit.jsonl").chmod(0o640)
    os.chown(state / "audit.jsonl", NOBODY, NOBODY)
    return path


def report(config: Path, *words: str) -> int:
    period = () if "--since" in words else ("--since", "2026-03-01", "--until", "2026-03-02")
    return run(["report", *words, *period, "--config", str(config)])


def test_the_page_is_for_its_owner_alone(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert report(config, "--html", str(target)) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.stat().st_uid == 0
    assert "2 records from 1 file." in read(target.read_text()).text()


def test_it_takes_the_place_of_an_older_one_and_follows_no_link(config: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "page.html", tmp_path / "other"
    other.write_text("untouched")
    target.symlink_to(other)
    assert report(config, "--html", str(target)) == 0
    assert other.read_text() == "untouched"
    assert not target.is_symlink()


def test_a_dash_is_standard_output(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(config, "--html", "-") == 0
    told = capsys.readouterr()
    assert "2 records from 1 file." in read(told.out).text()
    assert told.err == ""


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_private(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--html", "-", "--since", "tomorrow"), 2, "write it as 7d"),
        (("--html", "-", "--since", "1h", "--until", "2h"), 2, "nothing lies between 1h and 2h"),
        ((), 2, "--html"),
        (("--html", "/proc/none/page.html"), 7, "/proc/none"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    config: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert (report(config, *words) if words else run(["report", "--config", str(config)])) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_others_than_root_and_the_server_are_told_that_it_is_for_root(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.seteuid(12345)
    try:
        assert report(config, "--html", "-") == 6
    finally:
        os.seteuid(0)
    assert "for root" in capsys.readouterr().err


def test_a_link_in_the_place_of_the_trail_is_not_followed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trail = config.parent / "state" / "audit.jsonl"
    trail.unlink()
    trail.symlink_to("/etc/shadow")
    assert report(config, "--html", "-") == 7
    assert "audit.jsonl" in capsys.readouterr().err
