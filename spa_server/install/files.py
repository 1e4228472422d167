"""Steps that write, remove and hand over files. Links are never followed: state folders belong to other users."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from spa_server.install.layout import File
from spa_server.install.step import Step


def write(file: File) -> Step:
    """The file with its text, for root to write and everybody to read."""
    return Step(f"write {file.path}", file.stands, lambda: _write(file.path, file.text, 0o644))


def remove(path: Path, what: str = "") -> Step:
    """A file, or a folder with all that is in it. `what`: what is lost with it, for the operator to read."""

    def do() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    return Step(f"remove {path}{what and ', '}{what}", lambda: not os.path.lexists(path), do)


def remove_if_empty(folder: Path) -> Step:
    """A folder that is ours only as long as nothing of others is in it."""

    def is_done() -> bool:
        try:
            return any(folder.iterdir())
        except OSError:
            return True

    return Step(f"remove {folder}", is_done, folder.rmdir)


def let_read(path: Path, group: str) -> Step:
    """A file of root's, which that group may read, and nobody else."""

    def is_done() -> bool:
        try:
            status = path.lstat()
            return (status.st_uid, status.st_mode & 0o7777, path.group()) == (0, 0o640, group)
        except (FileNotFoundError, KeyError):
            return False

    def do() -> None:
        with _opened(path) as descriptor:
            os.fchown(descriptor, 0, grp.getgrnam(group).gr_gid)
            os.fchmod(descriptor, 0o640)

    return Step(f"let only root and the group {group} read {path}", is_done, do)


def move_secret(old: Path, new: Path) -> Step:
    """A secret to where root alone can read it, unless there is one already."""

    def do() -> None:
        with _opened(old) as descriptor, os.fdopen(os.dup(descriptor), encoding="utf-8") as file:
            text = file.read()
        _write(new, text, 0o600)
        old.unlink()

    return Step(f"move {old} to {new}", lambda: not os.path.lexists(old) or os.path.lexists(new), do)


def give_to_root(folder: Path) -> Step:
    """What is kept becomes root's: the number of a user that is gone may be given to another one day."""

    def all_paths() -> list[Path]:
        return [folder, *(Path(top, name) for top, below, names in os.walk(folder) for name in (*below, *names))]

    def is_done() -> bool:
        found = (path.lstat() for path in all_paths()) if folder.exists() else ()
        return all((each.st_uid, each.st_gid) == (0, 0) for each in found)

    def do() -> None:
        for path in all_paths():
            os.chown(path, 0, 0, follow_symlinks=False)

    return Step(f"keep {folder}, and give it to root", is_done, do)


def _write(path: Path, text: str, mode: int) -> None:
    """All of the file or nothing of it, also when the machine goes down meanwhile."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fchmod(new.fileno(), mode)
            os.fsync(new.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
