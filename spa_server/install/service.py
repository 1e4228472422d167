"""Steps that have systemd take the service up, and that end it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import spa_server
from spa_server.install import layout
from spa_server.install.accounts import has_user
from spa_server.install.program import check_start
from spa_server.install.step import Step, StepFailed, find, run, says, says_yes


def make_run_folder() -> Step:
    """/run/spa, which systemd makes again at every boot."""

    def is_done() -> bool:
        keeper = layout.RUN / "perimeter"
        return has_user(layout.KEEPER_USER) and keeper.is_dir() and keeper.owner() == layout.KEEPER_USER

    return Step(f"make {layout.RUN}", is_done, lambda: run("systemd-tmpfiles", "--create", str(layout.TMPFILES)))


def label(paths: Sequence[Path]) -> Step:
    """The SELinux labels that the policy has for these places; nothing where there is no SELinux."""

    def is_done() -> bool:
        # restorecon -n -v names what it would change.
        return find("restorecon") is None or not says("restorecon", "-R", "-n", "-v", *_present(paths))

    return Step("label the files for SELinux", is_done, lambda: run("restorecon", "-R", *_present(paths)))


def read_units(*, are_read: bool) -> Step:
    """Have systemd take notice of units that were written or removed just now."""
    return Step("have systemd read the units", lambda: are_read, lambda: run("systemctl", "daemon-reload"))


def enable(unit: str, executable: Path) -> Step:
    """To be started at every boot, once the service's users have been seen to be able to start the program."""

    def is_done() -> bool:
        return says_yes("systemctl", "--quiet", "is-enabled", unit)

    def do() -> None:
        for user in layout.USERS:
            check_start(executable, user)
        run("systemctl", "--quiet", "enable", unit)

    return Step(f"enable {unit}", is_done, do)


def start(unit: str) -> Step:
    """Started, or started anew where the program or the unit is newer than the process."""

    def is_done() -> bool:
        return says_yes("systemctl", "--quiet", "is-active", unit) and not _is_outdated(unit)

    return Step(f"start {unit}", is_done, lambda: run("systemctl", "restart", unit))


def stop(unit: str) -> Step:
    """Stopped, now and at boot."""

    def is_done() -> bool:
        return not any(says_yes("systemctl", "--quiet", f"is-{what}", unit) for what in ("active", "enabled", "failed"))

    def do() -> None:
        run("systemctl", "--quiet", "disable", "--now", unit)
        with contextlib.suppress(StepFailed):  # what systemctl says of a unit that has not failed
            run("systemctl", "reset-failed", unit)

    return Step(f"stop and disable {unit}", is_done, do)


def _is_outdated(unit: str) -> bool:
    started_us = _shown(unit, "ExecMainStartTimestampMonotonic")
    if not started_us.isdigit():
        return False
    started_s = time.time() - (time.monotonic() - int(started_us) / 1e6)
    files = (Path(spa_server.__file__), layout.UNIT_FOLDER / unit, layout.drop_in_path(unit))
    return any(path.stat().st_mtime > started_s for path in files if path.exists())


def _shown(unit: str, name: str) -> str:
    return says("systemctl", "show", "--value", f"--property={name}", unit).strip()


def _present(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths if path.exists()]
