"""From the wishes in the state file to the notice board, after each change of them."""

from __future__ import annotations

import logging
from pathlib import Path

from spa_server.announce.board import Notice, post
from spa_server.remember.requests import Request, Requests, RequestState
from spa_server.remember.store import StateError

log = logging.getLogger("spa.announce")


def post_requests(board: Path, requests: Requests, now_s: int) -> None:
    """Put all that has not expired on the board. A failure is logged, never raised."""
    try:
        found = [_notice(each, now_s) for each in requests.requests()]
    except StateError as error:
        log.warning("nobody is told of requests: %s", error)
        return
    post(board, (each for each in found if each.state != RequestState.EXPIRED))


def _notice(each: Request, now_s: int) -> Notice:
    return Notice(
        number=each.number,
        user=each.user,
        device=each.device,
        service=each.service,
        state=each.state(now_s).value,
        by=tuple(name for name, until_s in each.by if until_s > now_s),
        denied_by=each.denied_by,
        asked_s=each.asked_s,
        waits_until_s=each.waits_until_s,
    )
