"""The command line: what it prints, and the one line and exit code of everything that goes wrong."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from spa_client.commands import COMMANDS, run
from spa_client.perimeter import USUAL_SLOTS, Perimeter
from spa_client.storage import FOLDER_VARIABLE, Store
from spa_protocol.answer import AnsweredService
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper

Captured = pytest.CaptureFixture[str]


def fails(arguments: list[str], code: int, capsys: Captured) -> str:
    """Check that a command line fails with that code and prints one line; the line."""
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("spa-client: ")
    assert captured.err.count("\n") == 1
    return captured.err


class TestWhatItPrints:
    """Commands that succeed."""

    def test_join_says_as_whom_and_what_next(self, server: Gatekeeper, store: Store, capsys: Captured) -> None:
        assert run(["join", server.invite().text(), "--name", "office"]) == 0
        out = capsys.readouterr().out
        assert "joined: office, as alice-laptop" in out
        assert "spa-client knock office" in out

    def test_join_reads_the_invite_from_standard_input(
        self, server: Gatekeeper, store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(server.invite().text().encode() + b"\n")))
        assert run(["join", "-", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["label"] == "alice-laptop"

    def test_knock_says_what_opened_for_whom_and_how_long(
        self, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.seen = IPv4Address("198.51.100.7")
        assert run(["knock", "office", "web"]) == 0
        captured = capsys.readouterr()
        assert "open: web (tcp/8443) at 127.0.0.1 for 30 s, for this source 198.51.100.7\n" in captured.out
        assert captured.err == ""

    def test_knock_needs_no_name_where_one_is_joined(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["knock"]) == 0
        assert "open: web" in capsys.readouterr().out

    def test_knock_prints_json(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.services = (AnsweredService("dns", 12, 0, 53, False),)
        assert run(["knock", "office", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["left_s"] == 12
        assert said["services"][0]["udp_port"] == 53
        assert said["services"][0]["tcp_port"] is None
        assert set(said["services"][0]["addresses"]) == {"127.0.0.1", "::1"}

    def test_knock_can_be_quiet(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["knock", "office", "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")

    def test_a_warning_goes_to_standard_error(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.seen = IPv4Address("203.0.113.9")
        assert run(["knock", "office", "--source", "192.0.2.1"]) == 0
        captured = capsys.readouterr()
        assert captured.err.startswith("spa-client: warning: ")
        assert "for the named source 192.0.2.1" in captured.out

    def test_list_and_show_give_no_secret(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        for arguments in (["list"], ["list", "--json"], ["show"], ["show", "office"], ["show", "office", "--json"]):
            assert run(arguments) == 0
        out = capsys.readouterr().out
        assert office.device_text in out
        assert office.server_text in out
        assert "SECRET" not in out.upper().replace("SPA-SECRET-KEY-FILE", "")
        assert json.loads(out.splitlines()[1])[0]["name"] == "office"

    def test_list_names_what_cannot_be_used(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        (store.folder / "office" / "device.key").unlink()
        assert run(["list"]) == 0
        assert "office  unusable: " in capsys.readouterr().out

    def test_remove_asks_nobody_where_there_is_no_terminal(
        self, office: Perimeter, store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        assert run(["remove", "office"]) == 2
        assert "give --yes" in capsys.readouterr().err
        assert store.names() == ("office",)
        assert run(["remove", "office", "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"removed": "office"}
        assert store.names() == ()

    def test_shells_can_complete_it(self, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("_SPA_CLIENT_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", "spa-client kn")
        monkeypatch.setenv("COMP_CWORD", "1")
        assert run([]) == 0
        assert capsys.readouterr().out == "plain,knock\n"

    def test_the_version_is_told(self, capsys: Captured) -> None:
        assert run(["--version"]) == 0
        assert capsys.readouterr().out.startswith("spa-client ")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_help_with_examples_and_exit_codes(self, command: str, capsys: Captured) -> None:
        assert run([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert "Examples:" in out
        assert f"  spa-client {command}" in out
        assert "Exit codes:" in out

    def test_the_groups_help_lists_every_command_as_it_describes_itself(self, capsys: Captured) -> None:
        from spa_client.commands import LazyGroup, group

        assert isinstance(group, LazyGroup)
        assert run(["--help"]) == 0
        out = capsys.readouterr().out
        for name, (_, summary) in COMMANDS.items():
            assert f"  {name}" in out
            command = group.get_command(None, name)  # type: ignore[arg-type]  # a context is not used
            assert command is not None
            assert command.short_help == summary


class TestWhatGoesWrong:
    """Each in one line that says what to do, with a documented exit code."""

    def test_no_such_perimeter(self, office: Perimeter, capsys: Captured) -> None:
        assert "no perimeter named home (joined: office)" in fails(["knock", "home"], 5, capsys)
        assert "no perimeter named home" in fails(["show", "home"], 5, capsys)
        assert "no perimeter named home" in fails(["remove", "home", "--yes"], 5, capsys)

    def test_nothing_joined_yet(self, store: Store, capsys: Captured) -> None:
        assert "spa-client join INVITE" in fails(["knock"], 5, capsys)

    def test_an_expired_invite(self, server: Gatekeeper, store: Store, capsys: Captured) -> None:
        line = fails(["join", server.invite(expires_in_s=-1).text()], 3, capsys)
        assert "ask for a new one" in line

    def test_a_mangled_invite(self, server: Gatekeeper, store: Store, capsys: Captured) -> None:
        text = server.invite().text()
        for at in range(len(text)):
            changed = text[:at] + ("q" if text[at] != "q" else "p") + text[at + 1 :]
            assert "the invite cannot be used" in fails(["join", changed], 2, capsys)

    @pytest.mark.parametrize("pasted", ["", "  ", "https://example.com/invite", "spa-invite1", "\udcff", "é" * 2000])
    def test_something_else_pasted(self, pasted: str, store: Store, capsys: Captured) -> None:
        assert "invite" in fails(["join", pasted], 2, capsys)

    def test_something_else_piped(self, store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(os.urandom(5000))))
        assert "the invite cannot be used" in fails(["join", "-"], 2, capsys)

    def test_a_name_that_is_taken(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        line = fails(["join", server.invite().text(), "--name", "office"], 2, capsys)
        assert "--name" in line

    @pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
    @pytest.mark.file_modes
    def test_a_key_that_others_can_read(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        path = store.folder / "office" / "device.key"
        path.chmod(0o644)
        assert f"chmod 600 '{path}'" in fails(["knock", "office"], 6, capsys)

    def test_an_unknown_host(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        path = store.folder / "office" / "perimeter.toml"
        path.write_text(path.read_text().replace('"127.0.0.1", "::1"', '"nowhere.invalid"'))
        assert "nowhere.invalid" in fails(["knock", "office"], 7, capsys)

    def test_no_answer(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.silent = True
        line = fails(["knock", "office", "--timeout", "0.3"], 4, capsys)
        assert "spa-server why alice-laptop" in line

    def test_a_clock_off_by_an_hour(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.clock_ms = 3_600_000
        line = fails(["knock", "office"], 3, capsys)
        assert re.match(r"spa-client: this computer's clock is 36\d\d s behind the server's; set it \(", line)

    def test_refused(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        assert "unknown service ssh" in fails(["knock", "office", "ssh"], 3, capsys)
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        assert "device is disabled" in fails(["knock", "office"], 3, capsys)

    def test_knocks_used_up(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        from spa_client.exchange import wall_ms

        slots, now_ms = store.memory("office").slots, wall_ms()
        for _ in range(USUAL_SLOTS):
            slots.claim(now_ms)
            slots.claim(now_ms + 60_000)
        assert "the next minute begins in" in fails(["knock", "office"], 7, capsys)

    def test_a_port_that_does_not_open(
        self, office: Perimeter, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.opening.Wait.__init__.__defaults__", (0, False, 0.2))
        assert "granted, but tcp/9 on" in fails(["knock", "office", "--wait", "--port", "9"], 4, capsys)

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nonsense"],
            ["knock", "--nonsense"],
            ["knock", "office", "--for", "0"],
            ["knock", "office", "--for", "soon"],
            ["knock", "office", "--for", "99999999999"],
            ["knock", "office", "--port", "65536"],
            ["knock", "office", "--timeout", "-1"],
            ["knock", "office", "--timeout", "nan"],
            ["knock", "office", "--source", "nobody"],
            ["knock", "office", "WEB"],
            ["join"],
            ["remove"],
        ],
    )
    def test_bad_usage(self, arguments: list[str], office: Perimeter, capsys: Captured) -> None:
        if arguments:
            fails(arguments, 2, capsys)
        else:
            assert run([]) in (0, 2)

    def test_a_folder_that_is_a_file(
        self, server: Gatekeeper, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
        assert str(tmp_path / "file") in fails(["join", server.invite().text()], 7, capsys)
        assert str(tmp_path / "file") in fails(["list"], 7, capsys)

    def test_a_full_disk(
        self, server: Gatekeeper, store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        assert "make room on the disk" in fails(["join", server.invite().text()], 7, capsys)

    def test_an_interrupt(self, office: Perimeter, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*anything: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("spa_client.knocking.ask", interrupt)
        assert run(["knock", "office"]) == 130

    def test_main_ends_with_the_code_when_all_that_it_said_is_out(self, store: Store) -> None:
        words = [sys.executable, "-m", "spa_client", "list"]
        env = {**os.environ, FOLDER_VARIABLE: str(store.folder)}
        done = subprocess.run([*words, "--json"], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "[]\n")
        done = subprocess.run([*words[:-1], "knock"], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 5
        assert done.stderr.endswith("\n")
        reader, writer = os.pipe()
        os.close(reader)
        unread = subprocess.run(
            [*words, "--json"], env=env, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writer)
        assert (unread.returncode, unread.stderr) == (7, "")
