"""From the board to the people: look when it changes, tell what is new, by every way that is set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spa_server.announce.board import Notice, Unreadable, read
from spa_server.announce.changes import Replacements
from spa_server.announce.hook import run_hook
from spa_server.announce.lane import Lane
from spa_server.announce.news import at_start, since
from spa_server.announce.webhook import send
from spa_server.approval_table import ApprovalSettings

log = logging.getLogger("spa.announce")


def lanes_of(settings: ApprovalSettings) -> list[Lane]:
    """The ways that the configuration names; none where it names none."""
    lanes, hook, webhook = [], settings.hook, settings.webhook
    if hook is not None:
        program = hook
        lanes.append(Lane("hook", lambda news: run_hook(program, news)))
    if webhook is not None:
        url = webhook
        lanes.append(Lane("webhook", lambda news: send(url, news, time.sleep)))
    return lanes


def follow(board: Path, lanes: Sequence[Lane], ready: Callable[[], object], goes_on: Callable[[], bool]) -> None:
    """Tell what comes onto the board for as long as `goes_on`, asked after each change. Raises OSError."""
    # Watched before it is read, so that nothing falls in between.
    with Replacements(board) as replaced:
        known: dict[int, Notice] | None = None
        ready()
        while True:
            try:
                now = read(board)
            except Unreadable as error:
                log.warning("%s", error)
            else:
                for news in at_start(now) if known is None else since(known, now):
                    for lane in lanes:
                        lane.put(news)
                known = {each.number: each for each in now}
            if not goes_on():
                return
            replaced.wait()
