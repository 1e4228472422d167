"""A wall clock that can be stepped under the server alone: the machine's own stays as it is.

The interpreter of the server is told at its start, by a file that `site` runs, to add to the wall clock what another
file says at that moment: so every process of the server, and every command, sees the clock stepped at once. The
monotonic and the boot-time clock are the real ones. What the kernel would do at such a step besides, it is made to do:
end the wait of those who asked for word of it.

(Not by libfaketime, which puts itself before the C library: its 0.9.10 lets every `time.sleep` of Python 3.11 fail with
EINVAL, because that sleeps until a time of the monotonic clock.)
"""

from __future__ import annotations

from tests.chaos import syscalls
from tests.systemd.machine import Machine

MODULE, FILE = "clock_that_is_off", "/run/clock-is-off-by-ns"
SOURCE = f"""import os, time

def _off_ns():
    try:
        descriptor = os.open({FILE!r}, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 32))
    finally:
        os.close(descriptor)

_right, _right_ns = time.time, time.time_ns
time.time = lambda: _right() + _off_ns() / 1e9
time.time_ns = lambda: _right_ns() + _off_ns()
"""


class SteppedClock:
    """The wall clock of the server that is installed in a machine."""

    def __init__(self, machine: Machine, environment: str) -> None:
        """`environment`: where the server's packages are installed. To be made before it is started."""
        self._machine = machine
        self.is_off_by(0.0)
        packages = machine.run("sh", "-c", f"echo {environment}/lib/python3*/site-packages").stdout.strip()
        machine.write(f"{packages}/{MODULE}.py", SOURCE)
        machine.write(f"{packages}/{MODULE}.pth", f"import {MODULE}\n")

    def is_off_by(self, seconds: float, *pids: int) -> None:
        """From now on; `pids` are the processes that wait for word of it, by this machine's numbers."""
        # Put in place whole: it is read at any moment.
        words = ("sh", f"{seconds * 1e9:.0f}", FILE)
        self._machine.run("sh", "-c", 'echo "$1" >"$2.new" && chmod 0644 "$2.new" && mv "$2.new" "$2"', *words)
        for pid in pids:
            syscalls.end_timers(pid)
