"""The files of one perimeter: are they there, whose are they, who else can read or change them, can the state be kept?

It must not know what is in them: that is `storage`'s, whose own word on it is asked for last.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from spa_client.errors import SpaError
from spa_client.examine.findings import Finding, Severity
from spa_client.perimeter import Perimeter
from spa_client.storage import KEY_FILE, SECRET_FILE, Store

_LEFT_OVER = (".replaced-", ".removed-")


def read_perimeter(store: Store, name: str) -> tuple[Perimeter | None, tuple[Finding, ...]]:
    """The perimeter, if its files are good enough to knock with, and what was found about them."""
    folder = store.path(name)
    found = [*_secret_findings(folder), *_folder_findings(folder)]
    try:
        perimeter = store.load(name)
    except (SpaError, OSError) as error:
        if not any(finding.severity is Severity.FAULT for finding in found):
            found.append(Finding("files-unusable", Severity.FAULT, str(error), str(folder)))
        return None, tuple(found)
    if not found:
        found.append(Finding("files", Severity.OK, "its files are complete, and this user's alone", str(folder)))
    return perimeter, (*found, *_state_findings(store.state(name)), *_left_over(store.folder))


def _secret_findings(folder: Path) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    for path in (folder / KEY_FILE, folder / SECRET_FILE):
        try:
            status = path.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        evidence = f"{path}: owner {status.st_uid}, mode {mode:04o}"
        if status.st_uid != os.geteuid():
            what = "a secret belongs to another user, so it is not used"
            remedy = f"run as user {status.st_uid}, or: sudo chown {os.geteuid()} '{path}'"
            yield Finding("secret-owner", Severity.FAULT, what, evidence, remedy)
        if mode & 0o077:
            what = "a secret can be read or changed by others, so it is not used"
            remedy = f"chmod 600 '{path}'; if others use this computer, join again with a new invite"
            yield Finding("secret-mode", Severity.FAULT, what, evidence, remedy)


def _folder_findings(folder: Path) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    for path in (folder, folder.parent):
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o022:
            yield Finding(
                "folder-mode",
                Severity.WARNING,
                "others can put other keys, or another server, in the place of these",
                f"{path}: owner {status.st_uid}, mode {mode:04o}",
                f"chmod 700 '{path}'",
            )


def _state_findings(state: Path) -> Iterator[Finding]:
    """Whether what the client remembers of its knocks can be written, wherever the first folder is that exists."""
    there = next(path for path in (state, *state.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    yield Finding(
        "state-unwritable",
        Severity.WARNING,
        "which knocks were used cannot be remembered, so some will be lost and take longer",
        f"{there} cannot be written by this user",
        f"sudo chown -R {os.geteuid()} '{there}'" if hasattr(os, "geteuid") else f"make {there} writable",
    )


def _left_over(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(_LEFT_OVER):
            what = "secrets of a perimeter that was removed are still here"
            yield Finding("left-over", Severity.WARNING, what, str(path), f"rm -r '{path}'")
