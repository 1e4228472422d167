"""The perimeter on kernels that have no lasting ownership (before Linux 6.9): watched, and put up again."""

from __future__ import annotations

import pytest

from spa_server.enforce.tags import arm
from tests.server.keeper.running import Kept, Strangers, wait_until


@pytest.fixture
def watched(kept: Kept) -> Kept:
    kept.options = ("--unowned",)
    kept.start()
    return kept


def stands(kept: Kept) -> bool:
    with kept.table() as nft:
        return nft.rules()["service-web"] == 3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("removed", ("flush", "ruleset")),
        ("removed", ("delete", "table", "inet", "spa")),
        ("changed", ("flush", "table", "inet", "spa")),
        ("changed", ("insert", "rule", "inet", "spa", "services", "accept")),
        ("changed", ("add", "chain", "inet", "spa", "mine")),
    ],
)
def test_a_change_by_hand_is_undone_at_once_and_named(watched: Kept, how: str, words: tuple[str, ...]) -> None:
    with watched.table() as nft:
        before = nft.rules()
    with Strangers(watched.stranger, watched.server) as strangers:
        for times in range(1, 6):
            assert watched.nft(*words).returncode == 0
            watched.wait_for_log("put up again", times)
            already = strangers.tried
            wait_until(lambda already=already: strangers.tried > already + 5, "tries of the stranger")  # type: ignore[misc]
    assert f"the perimeter was {how} by nft (pid " in watched.log()
    assert watched.log().count("the perimeter was") < 30, "the log is not filled"
    with watched.table() as nft:
        assert nft.rules() == before
        assert "mine" not in nft.chains()
    times_s = [float(line.rpartition(" in ")[2].split()[0]) / 1000 for line in watched.lines if "again in" in line]
    print(f"{' '.join(words)}: put up again in {[round(each * 1000) for each in times_s]} ms;", end=" ")
    print(f"{len(strangers.passed)} of {strangers.tried * 2} tries of a stranger passed, open for ms:", end=" ")
    print([round(each * 1000, 1) for each in spans_s(strangers.passed)])


def spans_s(passed: list[float]) -> list[float]:
    """How long one thing after another came through, where no more than 10 ms lay between."""
    spans: list[list[float]] = []
    for at in passed:
        if spans and at - spans[-1][-1] < 0.01:
            spans[-1].append(at)
        else:
            spans.append([at])
    return [span[-1] - span[0] for span in spans]


def test_elements_put_in_by_hand_are_taken_out_and_its_own_stay(watched: Kept) -> None:
    client = watched.connect()
    client.arm([b"one-time"], 60_000)
    watched.opens(client, watched.alice)
    key = f"{watched.stranger.ipv4} . {watched.server.ipv4} . tcp . 8443"
    assert watched.nft("add", "element", "inet", "spa", "leases4", f"{{ {key} timeout 1h }}").returncode == 0
    watched.wait_for_log("put in by hand by nft")
    assert {lease.source for lease in watched.leases()} == {watched.alice.ipv4}
    with watched.table() as nft:
        arm(nft, [b"not ours"], 60_000)
        wait_until(lambda: [each.key for each in nft.dump("tags")] == [b"one-time"], "only the tag it armed itself")
    assert "put up again" not in watched.log()
    assert not client.take_events().disarmed


def test_its_own_work_is_not_taken_for_anybody_elses(watched: Kept) -> None:
    client = watched.connect()
    for round_ in range(5):
        client.arm([bytes([round_, number % 256, number // 256, 0, 0, 0, 0, 0]) for number in range(5000)], 60_000)
        watched.opens(client, watched.alice)
    assert watched.command("perimeter", "apply").returncode == 0
    assert watched.command("lease", "revoke", str(watched.alice.ipv4)).returncode == 0
    assert client.counters()[4] == 0
    assert "the perimeter was" not in watched.log()
    assert "by hand" not in watched.log()
    with watched.table() as nft:
        assert len(nft.dump("tags")) == 25_000, "they live through being applied again"


def test_the_network_process_is_told_that_its_tags_are_gone(watched: Kept) -> None:
    client = watched.connect()
    client.arm([b"one-time"], 60_000)
    watched.opens(client, watched.alice)
    watched.nft("flush", "ruleset")
    watched.wait_for_log("put up again")
    wait_until(lambda: client.take_events().disarmed, "word of it")
    assert stands(watched)
    watched.opens(client, watched.alice)


def test_a_root_who_takes_it_down_on_purpose_is_not_fought(watched: Kept) -> None:
    assert watched.command("perimeter", "remove", "--yes").stdout == "the perimeter is down\n"
    assert watched.tables() == []
    watched.nft("add", "table", "inet", "spa")
    assert watched.command("perimeter", "apply").returncode == 0
    assert stands(watched)
    watched.nft("flush", "ruleset")
    watched.wait_for_log("put up again")
