"""How log lines look: one line each, UTC, to standard error, which the journal keeps."""

from __future__ import annotations

import logging
import os
import sys
import time


class OneLine(logging.Formatter):
    """A formatter whose every record is one line of printable characters."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record, with line breaks and control characters made visible."""
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in super().format(record))


def start_logging(*, verbose: bool) -> None:
    """Log to standard error; under systemd without the time and level, which the journal adds."""
    form = "%(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(form, "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
