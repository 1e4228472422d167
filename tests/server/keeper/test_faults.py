"""The keeper through repeated failures: of the nft program, of replacements cut short, of what it only reads."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from spa_server.enforce import carried, nft_program, owned
from spa_server.enforce.leases import Grant, list_leases, open_leases
from spa_server.enforce.nft_program import PerimeterError
from spa_server.enforce.requests import Reload
from spa_server.enforce.ruleset import hold_ruleset
from spa_server.keeper import loop
from spa_server.keeper.loop import Keeper
from spa_server.seldom import AT_ONCE
from tests.server.keeper.running import SSH, USER, WEB, Kept, Strangers, wait_until

FAILING = """\
#!/bin/sh
case "$*" in {pattern}) {act};; esac
exec {nft} "$@"
"""


@contextmanager
def nft_that(kept: Kept, pattern: str, act: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For what is started in the block, an nft program that does something else for some command lines."""
    folder = kept.folder / "bin"
    folder.mkdir()
    program = folder / "nft"
    program.write_text(FAILING.format(pattern=pattern, act=act, nft=shutil.which("nft", path="/usr/sbin:/sbin")))
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield program


def standing_hold(kept: Kept, name: str) -> None:
    """A hold table with its rules, as a keeper leaves it that is killed before it has put the perimeter up."""
    with kept.server.enter():
        owned._loaded(name, lambda: hold_ruleset(name, (62201,), kept.config.services)).close()


@pytest.mark.parametrize("empty", [None, "spa-hold", "spa-hold-2"])
def test_replacements_cut_short_twice_do_not_keep_the_next_keeper_from_starting(kept: Kept, empty: str | None) -> None:
    """Both hold tables stand then, and nothing else; one may have been cut short before it had a single rule."""
    for name in ("spa-hold", "spa-hold-2"):
        if name == empty:
            with kept.table() as nft:
                nft.table = name
                nft.own()
        else:
            standing_hold(kept, name)
    with Strangers(kept.stranger, kept.server) as strangers:
        kept.start()
    assert strangers.passed == []
    assert kept.tables() == ["spa"]
    kept.opens(kept.connect(), kept.alice)


def test_loading_may_fail_any_number_of_times(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    services = kept.config.services
    with kept.server.enter():
        first = owned.put_up((62201,), services)
        open_leases(first, [Grant(services[0], kept.alice.ipv4, kept.server.ipv4, 600, "alice")])

        def load(text: str) -> None:
            if "inet spa " in text:
                raise PerimeterError("nft did not end")
            nft_program.load(text)

        with monkeypatch.context() as patch, Strangers(kept.stranger, kept.server) as strangers:
            patch.setattr(owned, "load", load)
            for _ in range(4):
                with pytest.raises(PerimeterError, match="nft did not end"):
                    owned.put_up((62201,), services, first)
            assert kept.alice.reaches_tcp(kept.server.ipv4, 8443), "who is inside stays inside"
        owned.put_up((62201,), services, first).close()
    assert len(strangers.passed) == 1, "nobody but who is inside"
    assert kept.tables() == ["spa"]
    assert {lease.label for lease in kept.leases()} == {"alice"}
    first.close()


def test_where_tables_cannot_be_owned_the_hold_table_goes_too(kept: Kept) -> None:
    """The unit loads one when the keeper cannot start: left standing beside the perimeter it would let nobody in."""
    name = "spa-hold"
    kept.server.nft(f"add table inet {name}\n{hold_ruleset(name, (62201,), kept.config.services)}")
    kept.options = ("--unowned",)
    kept.start()
    assert kept.tables() == ["spa"]
    kept.opens(kept.connect(), kept.alice)
    with kept.server.listen_tcp(8443):
        assert kept.alice.reaches_tcp(kept.server.ipv4, 8443)


def test_a_lease_whose_time_is_over_when_loading_ends_is_not_carried_over(kept: Kept) -> None:
    """nft counts from when it loads, which may be late on a loaded host."""
    services = kept.config.services
    with kept.server.enter(), owned.put_up((62201,), services) as nft:
        open_leases(nft, [Grant(services[0], kept.alice.ipv4, kept.server.ipv4, 60, "alice")])
        over, going_on = list_leases(nft)
        taken_ms = time.monotonic_ns() // 1_000_000 - 2000
        late = replace(over, left_ms=1000)
        carried.Carried((late, going_on), taken_ms, {}).settle(nft)
        assert [(each.protocol, each.port) for each in list_leases(nft)] == [(going_on.protocol, going_on.port)]


def test_what_only_warns_keeps_nobody_from_starting(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs' tables are read to warn of them; nft may not be able to show them."""
    with nft_that(kept, '*"list ruleset"*', "exit 139", monkeypatch):
        kept.start()
    kept.wait_for_log("other tables could not be looked through")
    client = kept.connect()
    kept.opens(client, kept.alice)
    kept.configure(WEB + SSH)
    assert kept.command("perimeter", "apply", "--yes").returncode == 0
    assert "service-ssh" in kept.nft("list", "chains", "inet").stdout


def test_the_watchdog_is_content_while_nft_takes_its_time(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for a keeper that is stuck: ended in the middle of a replacement it would only begin anew."""
    slow = kept.folder / "slow"
    with nft_that(kept, "-f*", f"while [ -e {slow} ]; do sleep 0.05; done", monkeypatch) as program:
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        kept.start()
        slow.touch()
        kept.configure(WEB + SSH)
        order = kept.lab.server.popen(kept.words("perimeter", "apply", "--yes"))
        wait_until(lambda: runs(program), "the slow nft")
        kept.manager.hear()
        already = len(kept.manager.said)
        wait_until(lambda: len(kept.manager.said) >= already + 3, "signs of life")
        slow.unlink()
        assert order.wait(timeout=60) == 0


def runs(program: Path) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(program).encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_copy_that_root_left_where_only_root_reads_it_is_replaced(kept: Kept) -> None:
    """Root may have run the server by hand once; the service's user must not be left with no last good one for ever."""
    from spa_server.keeper.applied import keep_text

    folder = kept.folder / "own"
    folder.mkdir()
    shutil.chown(folder, USER)
    path = folder / "applied.toml"
    path.write_text("old")
    path.chmod(0o600)
    uid = folder.stat().st_uid
    os.seteuid(uid)
    try:
        keep_text(path, b"new")
        assert path.read_text() == "new"
    finally:
        os.seteuid(0)


def test_the_rules_for_when_it_cannot_start_are_never_those_on_trial(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would close what nobody has shown that they can get through."""
    state = kept.folder / "kept"
    state.mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    kept.start()
    kept.configure(WEB + SSH)
    assert kept.command("perimeter", "apply", "--yes", "--confirm", "600").returncode == 0
    assert "service-ssh" not in (state / "closed.nft").read_text()
    assert kept.command("perimeter", "confirm").returncode == 0
    assert "service-ssh" in (state / "closed.nft").read_text()


def test_it_sleeps_as_long_as_nobody_needs_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float | None] = []

    class Enough(Exception):
        pass

    def select(self: object, timeout: float | None = None) -> list[object]:
        slept.append(timeout)
        if timeout == 0:  # it is time to look for what there is to warn of
            return []
        raise Enough

    monkeypatch.setattr(loop, "WARN_AFTER_S", 0.0)
    with kept.server.enter(), owned.put_up((62201,), ()):
        pass
    monkeypatch.setattr("selectors.DefaultSelector.select", select)
    with kept.server.enter():
        keeper = Keeper(kept.config_path, kept.config)
        with pytest.raises(Enough):
            keeper.run()
        keeper.standing.apply(600.0)
        with pytest.raises(Enough):
            keeper.run()
        keeper.let_go()
    assert slept[:3] == [0, None, 0]
    assert slept[3] is not None
    assert slept[3] <= 1


def test_requests_without_end_neither_fill_the_log_nor_keep_root_waiting(kept: Kept) -> None:
    """A taken-over network process can ask as fast as it likes."""
    kept.start()
    client = kept.connect()
    channel = client._channel
    stale = Reload(1, b"another.").pack()
    channel.setblocking(False)
    already, asked = len(kept.lines), 0
    order = kept.lab.server.popen(kept.words("perimeter", "apply", "--yes"))
    begun_s = time.monotonic()
    while order.poll() is None:
        for message in (stale, b"nonsense of some length"):
            with suppress(BlockingIOError):
                asked += channel.send(message) > 0
        with suppress(BlockingIOError):
            channel.recv(100)
        assert time.monotonic() < begun_s + 60
    assert order.returncode == 0
    passed_s = time.monotonic() - begun_s
    assert asked > 5 * AT_ONCE
    assert len(kept.lines) - already <= 2 * (AT_ONCE + passed_s + 1) + 5, kept.log()
