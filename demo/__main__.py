"""`python -m demo`: the whole demonstration; exit code 0 only when every step went as expected."""

from __future__ import annotations

import contextlib
import platform
import signal
import subprocess
import sys
import time
from typing import NoReturn

from demo.console import Console
from demo.story import SERVICES, Story
from demo.web import served
from tests.end_to_end.running import NETWORK_USER, RunningServer, open_folder
from tests.lab import Lab, LabError, check_surroundings

FAULTS = (LabError, OSError, AssertionError, subprocess.SubprocessError)
FAULT = 7


def main() -> int:
    """Show everything; the exit code."""
    # So that everything is taken down on this way too.
    signal.signal(signal.SIGTERM, _stop)
    say = Console()
    begun_s = time.monotonic()
    try:
        check_surroundings()
        show(say)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except FAULTS as error:
        print(f"demo: {error}", file=sys.stderr)
        return FAULT
    return say.verdict(time.monotonic() - begun_s)


def show(say: Console) -> None:
    """Build the lab, tell the story, take the lab down."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        lab = stack.enter_context(Lab())
        say.title(
            f"Single packet authorization on Linux {platform.release()}: a server and three laptops, "
            "each in a network namespace of its own"
        )
        say.chapter("The perimeter is put up")
        server = RunningServer(lab, folder, SERVICES)
        say.step("server", "spa-server init: keys, configuration, state folder", server.config.exists())
        server.start()
        stack.callback(server.kill)
        stack.enter_context(served(lab.server))
        running = server.network_pid > 0
        said = f"spa-server run: closed in the kernel; packets are read by a process of user {NETWORK_USER}"
        say.step("server", said, running)
        say.quote(f"{lab.server.ipv4} and {lab.server.ipv6}; a web service listens on tcp/8443")
        Story(lab, server, say).tell()


def _stop(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
