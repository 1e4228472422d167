"""What a command of the client that goes on tells with --json, while it goes on."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any


def told_by(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """The events that it tells from now on; the list grows."""
    events: list[dict[str, Any]] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            events.append(json.loads(line))

    threading.Thread(target=read, daemon=True).start()
    return events


def causes(events: list[dict[str, Any]]) -> list[str]:
    """What each was, such as "opened"."""
    return [event["event"] for event in events]
