"""Every answer, whatever it says, tells how many knocks a minute the server takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from spa_protocol.tag import TagKind
from tests.server.listen.world import START, TOLD_SLOTS, Keyring, ListeningServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ListeningServer]:
    made = ListeningServer(tmp_path, START)
    yield made
    made.close()


@pytest.fixture
def alice(server: ListeningServer) -> Keyring:
    return server.add("alice")


@pytest.mark.parametrize(
    ("names", "kind", "refusal"),
    [
        (("web",), TagKind.KNOCK, None),
        (("vault",), TagKind.KNOCK, Refusal.SERVICE_NOT_ALLOWED),
        (("web",), TagKind.CLOCK, Refusal.CLOCK_ONLY),
    ],
)
def test_the_answer_to_a_knock(
    names: tuple[str, ...], kind: TagKind, refusal: Refusal | None, server: ListeningServer, alice: Keyring
) -> None:
    request = alice.knock(START.wall_ms, 0, *names, kind=kind)
    answer = alice.answer(server.hear(request, START), request)
    assert answer is not None
    assert (answer.refusal, answer.slots) == (refusal, TOLD_SLOTS)


def test_the_answer_to_an_enrolment(server: ListeningServer) -> None:
    invite = server.invite("bob", START)
    request, _ = invite.enrolment(START.wall_ms, 0, "laptop")
    answer = invite.answer(server.hear(request, START), request)
    assert answer is not None
    assert (answer.refusal, answer.slots) == (None, TOLD_SLOTS)
