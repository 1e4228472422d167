"""The table that only its keeper can change: others, the keeper's death, a new keeper, an older version's table."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from spa_server.enforce import nft_program, owned, perimeter
from spa_server.enforce.leases import Grant, list_leases, open_leases
from spa_server.enforce.nft_program import PerimeterError
from spa_server.enforce.table import OwnedElsewhere
from tests.server.keeper.running import SSH, WEB, Kept, Strangers

OLDER = (Path(__file__).parent / "older.nft").read_text()


def test_others_can_neither_flush_nor_delete_nor_edit_it(kept: Kept) -> None:
    kept.start()
    with kept.table() as nft:
        rules = nft.rules()
    with Strangers(kept.stranger, kept.server) as strangers:
        assert kept.nft("flush", "ruleset").returncode == 0
        key = f"{kept.stranger.ipv4} . {kept.server.ipv4} . tcp . 8443"
        for words in (
            ("delete", "table", "inet", "spa"),
            ("flush", "table", "inet", "spa"),
            ("insert", "rule", "inet", "spa", "services", "accept"),
            ("add", "element", "inet", "spa", "leases4", f"{{ {key} timeout 1h }}"),
            ("flush", "set", "inet", "spa", "leases4"),
        ):
            assert "Operation not permitted" in kept.nft(*words).stderr, words
    assert strangers.passed == []
    with kept.table() as nft:
        assert nft.rules() == rules
        state = nft.state()
        assert state is not None
        assert state.owner_port


def test_commands_of_root_cannot_change_it_past_the_keeper(kept: Kept) -> None:
    kept.start()
    with kept.server.enter():
        with pytest.raises(OwnedElsewhere, match="owned by another process"):
            perimeter.apply(kept.config.knock_ports, ())
        with pytest.raises(OwnedElsewhere):
            perimeter.remove()
        with pytest.raises(OwnedElsewhere):
            owned.put_up(kept.config.knock_ports, ())


def test_it_stays_owned_while_the_keeper_is_dead_and_the_next_one_takes_it_over(kept: Kept) -> None:
    """The service manager keeps the owning socket: also SIGKILL leaves no moment in which others can change it."""
    kept.start()
    kept.opens(kept.connect(), kept.alice)
    with kept.server.listen_tcp(2222), Strangers(kept.stranger, kept.server) as strangers:
        kept.manager.hear()
        kept.kill()
        kept.nft("flush", "ruleset")
        assert "Operation not permitted" in kept.nft("delete", "table", "inet", "spa").stderr
        kept.configure(WEB + SSH)
        kept.start()
        kept.nft("flush", "ruleset")
        assert kept.stranger.is_kept_out(kept.server.ipv4, 2222)
    assert strangers.passed == []
    assert {lease.source for lease in kept.leases()} == {kept.alice.ipv4}
    assert kept.tables() == ["spa"]
    kept.manager.hear()
    assert len(kept.manager.kept["table"]) == 1


def test_an_orphan_that_was_edited_is_put_right_by_the_next_keeper(kept: Kept) -> None:
    kept.start()
    kept.opens(kept.connect(), kept.alice)
    kept.kill()
    kept.manager.forget()
    with kept.table() as nft:
        before = nft.rules()
    endless = f"{{ {kept.stranger.ipv4} . {kept.server.ipv4} . tcp . 8443 }}"
    for words in (
        ("insert", "rule", "inet", "spa", "services", "accept"),
        ("add", "element", "inet", "spa", "leases4", endless),
        ("add", "chain", "inet", "spa", "mine"),
    ):
        assert kept.nft(*words).returncode == 0, words
    kept.start()
    with kept.table() as nft:
        assert nft.rules() == before
        assert "mine" not in nft.chains()
    assert {lease.source for lease in kept.leases()} == {kept.alice.ipv4}
    kept.wait_for_log("without an end")


@pytest.mark.parametrize("shape", ["as it was", "another hook priority", "another kind of set", "as an orphan"])
def test_an_older_versions_table_is_replaced_without_a_gap(kept: Kept, shape: str) -> None:
    text = OLDER
    if shape == "another hook priority":
        text = text.replace("priority mangle", "priority -140")
    if shape == "another kind of set":
        text = text.replace("size 1048576", "size 65536")
    if shape == "as an orphan":
        with kept.server.enter():
            owned.put_up((62201,), kept.config.services).close()
    else:
        kept.server.nft(text)
    key = f"{kept.alice.ipv4} . {kept.server.ipv4} . tcp . 8443"
    kept.nft("add", "element", "inet", "spa", "leases4", f'{{ {key} timeout 100s comment "alice" }}')
    with kept.table() as nft:
        (old,) = list_leases(nft)
        read_s = time.monotonic()
    with Strangers(kept.stranger, kept.server) as strangers:
        kept.start()
    assert strangers.passed == []
    print(f"{strangers.tried} tries of a stranger during the replacement")
    (lease,) = kept.leases()
    passed_ms = (time.monotonic() - read_s) * 1000
    assert (lease.label, lease.source, lease.port) == ("alice", kept.alice.ipv4, 8443)
    assert old.left_ms - passed_ms - 50 <= lease.left_ms <= old.left_ms
    assert kept.tables() == ["spa"]


def test_sessions_and_leases_live_through_being_applied_again(kept: Kept) -> None:
    kept.start()
    kept.opens(kept.connect(), kept.alice)
    with kept.server.listen_tcp(8443) as listener, kept.alice.connect_tcp(kept.server.ipv4, 8443) as near:
        far, _ = listener.accept()
        with far:
            before = kept.leases()
            for _ in range(3):
                assert kept.command("perimeter", "apply", "--yes").returncode == 0
                near.sendall(b"still here")
                assert far.recv(100) == b"still here"
    after = kept.leases()
    assert [(each.source, each.service, each.label) for each in after] == [
        (each.source, each.service, each.label) for each in before
    ]
    assert all(new.left_ms <= old.left_ms for new, old in zip(after, before, strict=True))


def test_what_an_interrupted_replacement_left_goes_with_the_next(kept: Kept) -> None:
    """It was killed after the old table went: the hold table is all that stands, and it has the leases."""
    kept.server.nft(OLDER.replace("table inet spa {", "table inet spa-hold {"))
    key = f"{kept.alice.ipv4} . {kept.server.ipv4} . tcp . 8443"
    kept.nft("add", "element", "inet", "spa-hold", "leases4", f'{{ {key} timeout 100s comment "alice" }}')
    with Strangers(kept.stranger, kept.server) as strangers:
        kept.start()
    assert strangers.passed == []
    assert kept.tables() == ["spa"]
    assert {lease.label for lease in kept.leases()} == {"alice"}


@pytest.mark.parametrize("failing", ["the hold table", "the table itself"])
def test_when_loading_fails_all_stays_closed_and_the_next_try_mends_it(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    services = kept.config.services
    with kept.server.enter():
        first = owned.put_up((62201,), services)
        open_leases(first, [Grant(services[0], kept.alice.ipv4, kept.server.ipv4, 60, "alice")])
        loads = iter([True] if failing == "the hold table" else [False, True])

        def load(text: str) -> None:
            if next(loads, False):
                raise PerimeterError("nft did not end")
            nft_program.load(text)

        monkeypatch.setattr(owned, "load", load)
        with Strangers(kept.stranger, kept.server) as strangers:
            with pytest.raises(PerimeterError, match="nft did not end"):
                owned.put_up((62201,), services, first)
            assert kept.alice.reaches_tcp(kept.server.ipv4, 8443), "who is inside stays inside"
            second = owned.put_up((62201,), services, first)
    assert len(strangers.passed) == 1, "nobody but who is inside"
    assert kept.tables() == ["spa"]
    assert {lease.label for lease in kept.leases()} == {"alice"}
    first.close()
    second.close()
