"""The last configuration that was good and applied: what the perimeter is put up from when the present one is not.

A copy of the file's text, where nobody but the firewall process and root can write.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from spa_server.config import DEFAULT_PATH, ConfigError, ServerConfig, load
from spa_server.digest import perimeter_digest
from spa_server.privilege import acting_as_owner_of

_log = logging.getLogger("spa.keeper")

APPLIED = "applied.toml"
UNCONFIRMED = "unconfirmed"
DEFAULT_FOLDER = Path("/var/lib/spa-perimeter")
READ_ATTEMPTS = 5


def applied_path(config_path: Path) -> Path:
    """Where it is kept: in the unit's state folder, else beside the configuration."""
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state:
        return Path(state, APPLIED)
    folder = DEFAULT_FOLDER if config_path == DEFAULT_PATH else config_path.parent
    return folder / APPLIED


def read_with_text(path: Path) -> tuple[ServerConfig, bytes]:
    """The checked configuration and the very text of it. Raises ConfigError."""
    for _ in range(READ_ATTEMPTS):
        config = load(path)
        with contextlib.suppress(OSError):
            text = path.read_bytes()
            if load(path) == config and path.read_bytes() == text:  # it was not being written meanwhile
                return config, text
    return load(path), b""


def starting_config(config_path: Path) -> ServerConfig:
    """The configuration; where it is bad, missing or unconfirmed, the last good one if there is one.

    Raises ConfigError when neither is good.
    """
    try:
        config = load(config_path)
    except ConfigError as error:
        reasons = str(error).splitlines()
        last = _last_good(config_path)
        if last is None:
            raise
    else:
        reasons = [f"{config_path} was on trial, and nobody confirmed it"]
        is_wanted = perimeter_digest(config.knock_ports, config.services) != unconfirmed(config_path)
        last = None if is_wanted else _last_good(config_path)
        if last is None:
            return config
    for reason in reasons:
        _log.error("%s", reason)
    _log.error("the perimeter is put up from the last good configuration, %s, until that is mended", last.path)
    return last


def _last_good(config_path: Path) -> ServerConfig | None:
    try:
        return load(applied_path(config_path))
    except ConfigError:
        return None


def unconfirmed(config_path: Path) -> bytes:
    """The digest of the configuration that is on trial, or was taken back; empty for none."""
    try:
        return bytes.fromhex(_mark(config_path).read_text())
    except (OSError, ValueError):
        return b""


def mark_unconfirmed(config_path: Path, digest: bytes) -> None:
    """Remember, over restarts and boots, that nobody has confirmed that configuration."""
    keep_text(_mark(config_path), digest.hex().encode())


def clear_unconfirmed(config_path: Path) -> None:
    """Whatever is in the file now is wanted."""
    with contextlib.suppress(OSError):
        _mark(config_path).unlink()


def _mark(config_path: Path) -> Path:
    return applied_path(config_path).with_name(UNCONFIRMED)


def save_applied(config_path: Path, text: bytes) -> None:
    """Keep the text as the last good one. A failure is a warning: the perimeter stands all the same."""
    if text:
        keep_text(applied_path(config_path), text)


def keep_text(path: Path, text: bytes) -> None:
    """Write the whole of a file or nothing of it, for this user alone to read. A failure is a warning."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(OSError):  # not there, or root's, who ran the server by hand
            if path.read_bytes() == text:
                return
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        _log.warning("what was applied could not be kept as %s: %s", path, error.strerror)


@contextlib.contextmanager
def acting_for(config_path: Path) -> Iterator[None]:
    """As root, be the owner of the folder where the last good configuration is kept, for the time of the block."""
    with acting_as_owner_of(applied_path(config_path).parent):
        yield
