"""`spa-client exec`: another command in our place, its status, its signals, its lease."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spa_client.commands import run
from spa_client.enrol import join
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.answer import AnsweredService
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.client.test_waiting import listening, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX signals and shells")
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def start(office: Perimeter, store: Store) -> Callable[..., subprocess.Popen[str]]:
    """Start `spa-client exec office -- WORDS` as a process of its own."""

    def start_it(*words: str) -> subprocess.Popen[str]:
        code = "from spa_client.commands import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, "exec", "office", "--timeout", "20", "--", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start_it


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_status_is_the_commands(status: int, office: Perimeter) -> None:
    assert run(["exec", "office", "--", "sh", "-c", f"exit {status}"]) == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_by_a_signal_is_128_and_its_number(number: int, office: Perimeter) -> None:
    assert run(["exec", "office", "--", "sh", "-c", f"kill -{int(number)} $$"]) == 128 + number


def test_no_such_command_is_127(office: Perimeter, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["exec", "office", "--", "no-such-command"]) == 127
    assert (
        capfd.readouterr().err == "spa-client: no-such-command: no such command; is it installed, and spelt as it is?\n"
    )


def test_what_cannot_be_run_is_126(office: Perimeter, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("hello")
    plain.chmod(0o644)
    assert run(["exec", "office", "--", str(plain)]) == 126
    assert run(["exec", "office", "--", str(tmp_path)]) == 126


def test_options_of_the_command_are_its_own(office: Perimeter, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["exec", "office", "--", "echo", "--help", "--service", "--", "-x"]) == 0
    assert capfd.readouterr().out == "--help --service -- -x\n"


class TestWithoutAName:
    """The default perimeter is meant where nothing but options stands before the command."""

    @pytest.mark.parametrize("before", [[], ["--service", "web"], ["-s", "web", "--for", "9", "--timeout", "20"]])
    def test_the_default_perimeter_is_meant(
        self, before: list[str], office: Perimeter, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["exec", *before, "--", "echo", "office", "--", "-x"]) == 0
        assert capfd.readouterr().out == "office -- -x\n"

    def test_of_several_without_a_choice_none_is_meant(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        join(server.invite().text(), store=store, name="home")
        assert run(["exec", "--", "true"]) == 125
        store.choose_default("home")
        assert run(["exec", "--", "true"]) == 0

    def test_without_dashes_the_first_word_is_the_name(self, office: Perimeter) -> None:
        assert run(["exec", "office", "true"]) == 0
        assert run(["exec", "true"]) == 122

    @pytest.mark.parametrize(
        "words", [["--"], ["--nonsense", "--", "true"], ["", "--", "true"], ["--for", "--", "true"]]
    )
    def test_what_makes_no_sense_still_makes_none(self, words: list[str], office: Perimeter) -> None:
        assert run(["exec", *words]) in (122, 125)


def test_the_services_named_are_asked_for(server: Gatekeeper, office: Perimeter) -> None:
    assert run(["exec", "office", "--service", "web", "--for", "99", "--", "true"]) == 0
    message = server.knocks()[0].message
    assert getattr(message, "services", None) == ("web",)
    assert getattr(message, "lease_s", None) == 99


class TestWhatGoesWrong:
    """Its own failures are 120 and the exit code of `knock`; the command is then not run."""

    def test_refused_is_123(self, server: Gatekeeper, office: Perimeter, tmp_path: Path) -> None:
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        assert run(["exec", "office", "--", "touch", str(tmp_path / "ran")]) == 123
        assert not (tmp_path / "ran").exists()

    def test_no_answer_is_124(self, server: Gatekeeper, office: Perimeter, store: Store, capsys: Captured) -> None:
        server.behaviour.silent = True
        path = store.folder / "office" / "perimeter.toml"
        path.write_text(path.read_text().split("[[service]]")[0])
        assert run(["exec", "office", "--timeout", "0.2", "--", "true"]) == 124
        assert "no answer" in capsys.readouterr().err

    def test_no_such_perimeter_is_125(self, office: Perimeter) -> None:
        assert run(["exec", "home", "--", "true"]) == 125

    @pytest.mark.file_modes
    def test_a_key_that_others_can_read_is_126(self, office: Perimeter, store: Store) -> None:
        (store.folder / "office" / "device.key").chmod(0o644)
        assert run(["exec", "office", "--", "true"]) == 126

    def test_an_unknown_host_is_126(self, office: Perimeter, store: Store) -> None:
        path = store.folder / "office" / "perimeter.toml"
        path.write_text(path.read_text().replace('"127.0.0.1", "::1"', '"nowhere.invalid"'))
        assert run(["exec", "office", "--", "true"]) == 126

    @pytest.mark.parametrize("arguments", [[], ["office"], ["office", "--nonsense", "--", "true"]])
    def test_bad_usage_is_122(self, arguments: list[str], office: Perimeter) -> None:
        assert run(["exec", *arguments]) == 122


def test_without_an_answer_the_port_decides(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.silent = True
    with listening() as port:
        assert run(["exec", "office", "--timeout", "0.2", "--port", str(port), "--", "sh", "-c", "exit 5"]) == 5


def test_the_lease_is_kept_while_the_command_runs(
    server: Gatekeeper, office: Perimeter, start: Callable[..., subprocess.Popen[str]]
) -> None:
    server.behaviour.services = (AnsweredService("web", 2, 8443, 0, False),)
    process = start("sleep", "60")
    try:
        until(lambda: len(server.knocks()) >= 4)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_handed_on(number: int, start: Callable[..., subprocess.Popen[str]]) -> None:
    trap = f"trap 'echo got it; exit 33' {int(number)}; echo ready; while :; do sleep 0.05; done"
    process = start("sh", "-c", trap)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    out, _ = process.communicate(timeout=60)
    assert out == "got it\n"
    assert process.returncode == 33


def test_a_signal_that_the_kernel_gives_to_another_thread_is_handed_on_at_once(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """The thread that holds the lease may get it, while the first stands in its wait for the command."""
    process = start("sh", "-c", "trap 'echo got it; exit 33' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    others = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir() if int(task.name) != process.pid]
    assert others, "there is no other thread"
    assert ctypes.CDLL(None).tgkill(process.pid, others[0], signal.SIGTERM) == 0
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("got it\n", 33)


def test_a_command_that_a_signal_ends_gives_its_number(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
