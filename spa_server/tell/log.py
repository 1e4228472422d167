"""Where log lines go and what they look like: the journal with its fields where standard error is the journal, else one
line each, UTC, to standard error; as text, or as JSON for what gathers the lines of containers.

Nothing here may hold up whoever logs: no handler waits, none raises.
"""

from __future__ import annotations

import logging
import select
import sys
import time
from enum import StrEnum

from spa_server.tell import ecs
from spa_server.tell.events import event_of
from spa_server.tell.journal import JournalHandler, stderr_is_journal

_LONGEST_MESSAGE = 3_000
"""Characters, a traceback among them: with all else there is to tell it is no line that has to be cut."""


class LogFormat(StrEnum):
    """What `--log-format` takes."""

    TEXT = "text"
    JSON = "json"


class OneLine(logging.Formatter):
    """A formatter whose every record is one line of printable characters."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record, with line breaks and control characters made visible."""
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in super().format(record))


class OneObject(logging.Formatter):
    """A formatter whose every record is one line of JSON, in the schema of the audit trail where it tells an event."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as an object."""
        time_ms, event = int(record.created * 1000), event_of(record)
        told: dict[str, object] = {"@timestamp": ecs.utc_ms(time_ms)}
        if event is not None:
            told = ecs.record(event, time_ms)
        told["message"] = super().format(record)[:_LONGEST_MESSAGE]
        told["log"] = {"level": record.levelname.lower(), "logger": record.name}
        return ecs.canonical(told).decode()


class StandardError(logging.StreamHandler):  # type: ignore[type-arg]  # generic for type checkers only
    """Standard error; a line is dropped rather than waited for when nobody reads it.

    A pipe that can be written to has room for PIPE_BUF bytes (pipe(7)), and a longer line could wait: it is cut.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line if it can be written now."""
        try:
            poll = select.poll()
            poll.register(self.stream.fileno(), select.POLLOUT)
            if not poll.poll(0):
                return
        except (OSError, ValueError):  # no descriptor of its own, as under a test runner
            pass
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line, cut to what can be written without waiting."""
        line = super().format(record)
        data = line.encode("utf-8", "replace")
        return line if len(data) < select.PIPE_BUF else data[: select.PIPE_BUF - 1].decode("utf-8", "ignore")


def start_logging(
    *, verbose: bool, form: LogFormat = LogFormat.TEXT, identifier: str = "spa-server", journal: str | None = None
) -> None:
    """Log to the journal where standard error is it (or to the journal socket given), else to standard error."""
    logging.raiseExceptions = False
    stderr = StandardError(sys.stderr)
    handler: logging.Handler = stderr
    if form is LogFormat.JSON:
        stderr.setFormatter(OneObject("%(message)s"))
    elif journal is not None or stderr_is_journal():
        # The journal adds the time and the level, also to what is read from standard error.
        stderr.setFormatter(OneLine("%(message)s"))
        handler = JournalHandler(identifier, stderr, *([journal] if journal is not None else []))
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        stderr.setFormatter(OneLine("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
