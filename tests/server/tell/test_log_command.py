"""`spa-server log`: what is asked for is found; `log verify` says what is wrong, and ends with a code of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_protocol.keys import public_key, sign
from spa_protocol.text import TextKind, encode
from spa_server.commands import run
from spa_server.commands.exits import Exit
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.identity import create_identity
from spa_server.tell import event_types
from spa_server.tell.audit import AuditTrail
from spa_server.tell.events import Actor, Event, Outcome
from tests.end_to_end.running import SCRIPTS, open_folder
from tests.server.tell.told import files, granted, granting, records
from tests.stalls import PATIENCE_S

SEED = bytes(range(32))
NOBODY = 65534
HOUR_MS = 3_600_000
START_MS = int(datetime(2026, 3, 1, 9, tzinfo=UTC).timestamp() * 1000)
REFUSED = Event(
    event_types.REFUSED,
    "refused bob-laptop+ci\x1b[2J from 192.0.2.9: no",
    Outcome.FAILURE,
    reason="service_not_allowed",
    source=ip_address("192.0.2.9"),
    user="bob",
    device="bob-laptop",
    delegate="ci",
    services=(("vault", 0),),
    session="b1",
)
DISABLED = Event(
    event_types.DEVICE_DISABLED,
    "disabled alice-laptop",
    user="alice",
    device="alice-laptop",
    session="c1",
    actor=Actor(0, "root", "carol"),
)

Told = Callable[..., list[int]]


class Place:
    """A server's configuration and a trail of a few records, an hour apart."""

    def __init__(self, folder: Path) -> None:
        self.config, self.path = folder / "server.toml", folder / "log" / "audit.jsonl"
        self.path.parent.mkdir()
        (folder / "state").mkdir(mode=0o700)
        create_identity(folder / "server.key", SEED)
        self.config.write_text(
            f'[server]\naddresses = ["192.0.2.1"]\nstate_folder = "{folder}/state"\naudit_file = "{self.path}"\n'
            '[service.web]\ntcp = [8443]\nroles = ["admin"]\n'
        )
        self.trail = AuditTrail(self.path, largest_bytes=1_800, most_files=100)
        for hour, event in enumerate((granting("a1"), granted("a1"), REFUSED, DISABLED, granted("a2", user="bob"))):
            self.trail.append(event, START_MS + hour * HOUR_MS)
        self.trail.sign(lambda message: sign(SEED, message))

    def command(self, *words: str) -> int:
        return run(["log", *words, "--config", str(self.config)])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("-n", "2"), [5, 6]),
        (("-n", "0"), [1, 2, 3, 4, 5, 6]),
        (("--device", "alice-laptop"), [1, 2, 4, 5]),
        (("--device", "bob-laptop"), [3]),
        (("--device", "bob-laptop+ci"), [3]),
        (("--device", "bob-laptop+other"), []),
        (("--user", "alice"), [2, 4]),
        (("--user", "carol"), [4]),
        (("--user", "root"), [4]),
        (("--service", "vault"), [3]),
        (("--source", "192.0.2.9"), [3]),
        (("--session", "a1"), [1, 2]),
        (("--action", "granted", "--user", "bob"), [5]),
        (("--outcome", "failure"), [3]),
        (("--since", "2026-03-01T11:00"), [3, 4, 5, 6]),
        (("--since", "2026-03-01T12:00+01:00", "--until", "2026-03-01T12:00"), [3]),
        (("--until", "2026-03-01"), []),
        (("--since", "1h"), [6]),
        (("--device", "alice-laptop", "-n", "1"), [5]),
    ],
)
def test_what_is_asked_for_is_found(
    place: Place, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], found: list[int]
) -> None:
    assert place.command(*options, "--json") == Exit.DONE
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [each["seq"] for each in told] == found
    everything = {each["seq"]: each for each in records(place.path)}
    assert told == [everything[seq] for seq in found], "each as it is in the file"


def test_scripts_get_records_only_and_people_see_what_is_none(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    with place.path.open("ab") as file:
        file.write(b"non\x1bsense\n")
    assert place.command("-n", "2", "--json") == Exit.DONE
    assert [json.loads(line)["seq"] for line in capfd.readouterr().out.splitlines()] == [6]
    assert place.command("-n", "1") == Exit.DONE
    assert capfd.readouterr().out.splitlines()[1] == "non\\x1bsense"


def test_people_get_a_table_in_which_nothing_moves_their_terminal(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    assert place.command("--outcome", "failure") == Exit.DONE
    head, line = capfd.readouterr().out.splitlines()
    assert head.split() == ["SEQ", "TIME", "(UTC)", "EVENT", "WHO", "SOURCE", "WHAT"]
    assert line.split()[:6] == ["3", "2026-03-01", "11:00:00", "refused", "bob-laptop", "192.0.2.9"]
    assert "\x1b" not in line
    assert "\\x1b[2J" in line


def test_the_table_leaves_out_checkpoints_unless_they_are_asked_for(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for words in ((), ("-n", "0"), ("--action", "checkpoint")):
        assert place.command(*words) == Exit.DONE
        shown[words] = [line.split()[0] for line in capfd.readouterr().out.splitlines()]
    assert shown == {
        (): ["SEQ", "1", "2", "3", "4", "5"],
        ("-n", "0"): ["SEQ", "1", "2", "3", "4", "5"],
        ("--action", "checkpoint"): ["SEQ", "6"],
    }


@pytest.mark.parametrize("words", [("--since", "yesterday"), ("--action", "nonsense"), ("--checkpoint", "1")])
def test_what_cannot_be_meant_is_bad_usage(place: Place, words: tuple[str, ...]) -> None:
    assert place.command(*words) == Exit.USAGE


def test_a_trail_that_is_not_there_is_said(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    for file in files(place.path):
        file.unlink()
    for words in ((), ("verify",)):
        assert place.command(*words) == Exit.FAULT
        assert "there is no audit trail at" in capfd.readouterr().err


def test_whoever_may_not_read_it_is_told_who_may(capfd: pytest.CaptureFixture[str]) -> None:
    with open_folder() as folder:
        place = Place(folder)
        (folder / "own").mkdir()
        os.chown(folder / "own", NOBODY, NOBODY)
        for mode, who in ((0o755, ", or as a member of the group root"), (0o700, "")):
            place.path.parent.chmod(mode)
            with acting_as_owner_of(folder / "own"):
                assert place.command() == Exit.NOT_PERMITTED
            said = capfd.readouterr()
            assert said.out == ""
            assert said.err == f"spa-server: {place.path} cannot be read: run it with sudo{who}\n"


def test_whoever_follows_is_shown_what_happens_next_also_when_files_are_put_aside(place: Place) -> None:
    words = [str(SCRIPTS / "spa-server"), "log", "--follow", "--json", "-n", "1", "--config", str(place.config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        seen = [json.loads(follower.stdout.readline())["seq"]]
        for _ in range(8):
            place.trail.append(granted())
            seen.append(json.loads(follower.stdout.readline())["seq"])
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE_S) == Exit.DONE
    assert seen == list(range(6, 15))
    assert len(files(place.path)) > 4


def test_a_reader_that_has_seen_enough_ends_it_quietly(place: Place) -> None:
    line = f"{SCRIPTS}/spa-server log --json --config {place.config} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_trail_as_it_was_written_verifies(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    last = records(place.path)[-1]
    assert place.command("verify", "--checkpoint", f"6:{last['hash'][:32].upper()}") == Exit.DONE
    said = capfd.readouterr().out
    assert "looked at records 1 to 6; files: 3" in said
    assert "signatures of the server's: 1, the newest of record 5" in said
    assert said.endswith("it is as it was written\n")
    assert place.command("verify", "--json") == Exit.DONE
    told = json.loads(capfd.readouterr().out)
    assert (told["intact"], told["first"], told["last"], told["findings"]) == (True, 1, 6, [])


def test_what_was_edited_is_named_and_ends_with_code_10(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    oldest = files(place.path)[0]
    oldest.write_bytes(oldest.read_bytes().replace(b"alice-laptop", b"mallo-laptop", 1))
    with pytest.raises(SystemExit) as ended:
        place.command("verify")
    assert ended.value.code == 10
    first, *_, last = capfd.readouterr().out.splitlines()
    assert first == f"edited        {oldest.name} line 1, record 1: its hash is not of what it says"
    assert last == "NOT as it was written"
    with pytest.raises(SystemExit):
        place.command("verify", "--json")
    told = json.loads(capfd.readouterr().out)
    assert [(each["trouble"], each["line"], each["seq"]) for each in told["findings"]] == [("edited", 1, 1)]
    assert told["findings"][0]["file"] == str(oldest)


def test_a_client_that_was_told_of_more_shows_that_the_end_was_cut(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        place.command("verify", "--checkpoint", "9:" + "ab" * 16)
    assert (
        "record 7: whoever has this checkpoint was told of record 9, and the trail ends at 6" in capfd.readouterr().out
    )


def test_with_another_servers_key_no_signature_is_good(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    right, wrong = (encode(TextKind.SERVER, public_key(seed)) for seed in (SEED, bytes(32)))
    assert place.command("verify", "--key", wrong, "--key", right) == Exit.DONE
    with pytest.raises(SystemExit):
        place.command("verify", "--key", wrong)
    assert "record 6: its signature is not the server's" in capfd.readouterr().out
    assert place.command("verify", "--key", "nonsense") == Exit.USAGE
