"""What the live view is made of is loaded for it alone: every other command starts as fast as without it."""

from __future__ import annotations

import subprocess
import sys

SEEN = """
import sys
import spa_server.commands.service, spa_server.commands.report, spa_server.commands.lease, spa_server.commands.perimeter
import spa_server.unprivileged
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"rich"}))
print(*sorted(name for name in sys.modules if name.startswith("spa_server.watch")))
"""


def test_no_other_command_loads_the_view_or_what_draws_it() -> None:
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"
