"""A way to tell people: a few at a time, so many that wait, and nobody who waits for it.

What one way takes too long for, or fails at, delays neither another way nor the look at the board.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from spa_server.announce.news import News

log = logging.getLogger("spa.announce")

AT_A_TIME = 4
MOST_WAITING = 100


class Lane:
    """Tells by `deliver`, which may take its time and raise. Its threads end with the process."""

    def __init__(self, name: str, deliver: Callable[[News], None], *, at_a_time: int = AT_A_TIME) -> None:
        self._name = name
        self._deliver = deliver
        self._waiting: queue.Queue[News] = queue.Queue(MOST_WAITING)
        for _ in range(at_a_time):
            threading.Thread(target=self._work, daemon=True).start()

    def put(self, news: News) -> None:
        """Have it told. Where too much waits already it is left out, and that is logged."""
        try:
            self._waiting.put_nowait(news)
        except queue.Full:
            log.warning("the %s is too slow; nobody was told by it: %s", self._name, news.text)

    def join(self) -> None:
        """Until all is told."""
        self._waiting.join()

    def _work(self) -> None:
        while True:
            news = self._waiting.get()
            try:
                self._deliver(news)
            except Exception as error:  # whatever it is, the next one is to be told
                log.warning("nobody was told by the %s of request %d: %s", self._name, news.notice.number, error)
            else:
                log.info("told by the %s: %s", self._name, news.text)
            finally:
                self._waiting.task_done()
