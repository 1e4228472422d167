"""A booted Debian: systemd as process 1 of a container, in the network namespace of one of the lab's hosts.

Every machine starts from the same prepared tree (`tests/systemd/prepare`), with a layer of its own above it that goes
with the machine. It leaves nothing on the host: mounts, processes and control groups are its own. It must not know
pytest, nor what is installed in it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.lab import Host
from tests.stalls import wait_until

CACHE = Path(os.environ.get("SPA_TEST_CACHE", "/var/cache/spa-tests"))
"""Where the trees are kept, outside of the checkout."""
BOOT_PATIENCE_S = 90.0

_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NSPAWN_LEFTOVERS = Path("/run/systemd/nspawn/propagate")
_numbers = itertools.count(1)

# The layer is a tmpfs in a mount namespace of its own, which ends with its last process: this one, when the tests do.
_HOLD = """
set -eu
mount -t tmpfs -o mode=0755 layer "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
echo mounted
exec cat
"""
# A control group of its own in each hierarchy that systemd manages, so that machines do not meet one another there.
_BOOT = """
set -eu
for group in $2; do echo $$ >"$group/cgroup.procs"; done
exec systemd-nspawn --quiet --boot --directory="$1" --machine="$3" --network-namespace-path="$4" \
    --capability=CAP_NET_ADMIN --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \
    --console=pipe
"""


class MachineError(Exception):
    """A machine cannot be had, or a command in it failed; the message says what to do or what it said."""


def debian_tree() -> Path:
    """The prepared tree, of the suite that `prepare` takes. Raises MachineError with the command that makes it."""
    trees = sorted(CACHE.glob("debian-*/prepared"))
    wanted = os.environ.get("SPA_TEST_SUITE") or platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    chosen = [tree for tree in trees if tree.parent.name == f"debian-{wanted}"] or trees
    if not chosen:
        raise MachineError(f"there is no Debian to boot in {CACHE}: make it with tests/systemd/prepare")
    return chosen[0].parent


class Machine:
    """A booted machine in a host's network namespace; `with Machine(...)` boots it and removes it."""

    def __init__(self, host: Host, folder: Path, *, layers: Sequence[Path] = ()) -> None:
        """`folder`: an empty one, where its root is mounted. `layers`: folders of files that the tree lacks."""
        self.host = host
        self.name = f"spa-machine-{os.getpid()}-{next(_numbers)}"
        self._folder = folder
        self._layers = (*layers, debian_tree())
        self._holder: subprocess.Popen[bytes] | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._groups: list[Path] = []
        self.leader = 0
        self.since_boot = ""
        """For journalctl. Its --boot is of no use: the journal may have begun before the boot id was laid bare."""

    def __enter__(self) -> Machine:
        try:
            self._mount()
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Power off without asking, and remove all of it."""
        self.power_off()
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()
            self._holder = None
        # What nspawn itself leaves behind.
        with contextlib.suppress(OSError):
            (_NSPAWN_LEFTOVERS / self.name).rmdir()

    def boot(self, *, wait: bool = True) -> None:
        """Start process 1; return when the boot is over, unless told not to wait for that."""
        assert self._holder is not None, "the machine has no file system"
        self._groups = [top / self.name for top in _group_hierarchies()]
        for group in self._groups:
            group.mkdir(exist_ok=True)
        groups = " ".join(map(str, self._groups))
        net = f"/run/netns/{self.host.name}"
        argv = ["nsenter", "--mount", f"--target={self._holder.pid}", "setpriv", "--pdeathsig", "KILL"]
        argv += ["sh", "-c", _BOOT, "sh", str(self._folder / "root"), groups, self.name, net]
        # The network of the machine may be set up by the machine itself, as that of any host.
        self.since_boot = f"--since=@{time.time():.6f}"
        env = {"PATH": _PATH, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "SYSTEMD_LOG_LEVEL": "warning"}
        self._nspawn = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until(self._has_leader, "process 1 of the machine", BOOT_PATIENCE_S)
        wait_until(lambda: self.run("test", "-S", "/run/systemd/private", check=False).returncode == 0, "its systemd")
        # nspawn lays another boot id over the kernel's, which units with a /proc of their own do not see.
        self.run("umount", "/proc/sys/kernel/random/boot_id")
        if wait:
            self.wait_for_boot()

    def wait_for_boot(self) -> None:
        """Return when the boot is over; MachineError naming what failed in it."""
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        if state != "running":
            raise MachineError(f"the machine is {state}: {self.run('systemctl', '--failed', check=False).stdout}")

    def power_off(self) -> None:
        """End all processes at once, as a power cut does; the files stay."""
        if self._nspawn is not None:
            if self.leader:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, signal.SIGKILL)
            self._nspawn.kill()
            self._nspawn.communicate()
            self._nspawn, self.leader = None, 0
        for group in self._groups:
            _remove_group(group)
        self._groups = []

    def run(
        self,
        *argv: str,
        check: bool = True,
        user: str | None = None,
        input: str | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine to its end, as root or as a user of the machine's."""
        done = subprocess.run(
            self._inside(argv, user), env={"PATH": _PATH, "LC_ALL": "C.UTF-8"}, input=input or "", timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise MachineError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def popen(self, *argv: str, user: str | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a command in the machine; it ends with the machine at the latest."""
        return subprocess.Popen(self._inside(argv, user), env={"PATH": _PATH, "LC_ALL": "C.UTF-8"}, **options)

    def read(self, path: str) -> str:
        """The text of a file of the machine."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, in place."""
        self.run("sh", "-c", 'cat >"$1"', "sh", path, input=text)

    def add(self, source: Path, path: str) -> None:
        """Copy a file or a folder of ours into a folder of the machine."""
        _copy(["tar", "-c", "-C", str(source.parent), source.name], self._inside(["tar", "-x", "-C", path], None))

    def fetch(self, path: str, folder: Path) -> None:
        """Copy a file or a folder of the machine into one of ours, under the whole of its path."""
        there = self._inside(["tar", "-c", "-C", "/", path.lstrip("/")], None)
        _copy(there, ["tar", "-x", "-C", str(folder)])

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as `systemctl show` tells them."""
        shown = self.run("systemctl", "show", name, *(f"--property={each}" for each in properties)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def main_pid(self, unit: str) -> int:
        """The machine's own number of a unit's main process, 0 for none."""
        return int(self.unit(unit, "MainPID")["MainPID"])

    def journal(self, *options: str) -> str:
        """What the machine has logged since it booted."""
        # With --since, journalctl of systemd 252 takes --lines for the first ones.
        count = next((int(each.removeprefix("--lines=")) for each in options if each.startswith("--lines=")), 0)
        rest = [each for each in options if not each.startswith("--lines=")]
        said = self.run("journalctl", self.since_boot, "--no-pager", "--output=short-monotonic", *rest).stdout
        return "".join(said.splitlines(keepends=True)[-count:])

    def _inside(self, argv: Sequence[str], user: str | None) -> list[str]:
        if not self.leader:
            raise MachineError("the machine is off")
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return ["nsenter", f"--target={self.leader}", *_NAMESPACES, *become, "--", *argv]

    def _mount(self) -> None:
        argv = ["unshare", "--mount", "--propagation=private", "setpriv", "--pdeathsig", "KILL"]
        argv += ["sh", "-c", _HOLD, "sh", str(self._folder), ":".join(map(str, self._layers))]
        pipe = subprocess.PIPE
        self._holder = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"mounted\n":
            raise MachineError(f"the machine's files cannot be mounted: {self._holder.stderr.read().decode()}")

    def _has_leader(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            assert self._nspawn.stderr is not None
            raise MachineError(f"the machine did not start: {self._nspawn.stderr.read().decode()}")
        pid = self._nspawn.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    self.leader = int(child)
        return bool(self.leader)


def _group_hierarchies() -> Iterator[Path]:
    """The mounted control group hierarchies that systemd manages processes in: one, or two on older set-ups."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            yield Path(where)


def _remove_group(group: Path) -> None:
    """Remove a control group and those below it, as soon as their last process is gone."""

    def gone() -> bool:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        return not group.exists()

    with contextlib.suppress(AssertionError):
        wait_until(gone, "the end of the machine's processes", 10)


def _copy(pack: Sequence[str], unpack: Sequence[str]) -> None:
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
        done = subprocess.run(unpack, stdin=tar.stdout, check=False)
    if done.returncode or tar.returncode:
        raise MachineError(f"{' '.join(pack)} could not be copied")
