"""The operator's own program, run once for each piece of news: no shell, a fixed environment, a time limit.

What it is told stands on its standard input as one JSON object, and in its environment; nothing on its command line. It
gets a process group of its own, which is killed when its time is over. What it prints goes nowhere, so that it can
neither fill the log nor wait for somebody who reads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from spa_server.announce.news import News

PATIENCE_S = 30.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HookFailed(Exception):
    """The program did not do it; the message says what is known."""


def run_hook(program: Path, news: News, patience_s: float = PATIENCE_S) -> None:
    """Run it and wait for its end. Raises HookFailed."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's program, and nothing but it
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(news),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise HookFailed(f"{program}: {error.strerror}") from error
    try:
        process.communicate(json.dumps(news.fields()).encode() + b"\n", patience_s)
    except subprocess.TimeoutExpired:
        raise HookFailed(f"{program}: not done after {patience_s:g} s, and ended") from None
    finally:
        # Also what it left behind in its group, once it has ended itself.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise HookFailed(f"{program}: ended with {process.returncode}")


def environment(news: News) -> dict[str, str]:
    """What the program finds in its environment: nothing of this process's own."""
    told = {key: value for key, value in news.fields().items() if isinstance(value, str | int)}
    return {"PATH": _PATH, "LANG": "C.UTF-8"} | {f"SPA_{key.upper()}": str(value) for key, value in told.items()}
