"""A security key in software, built from `provider.c`, that OpenSSH's own programs use like one that is plugged in.

It must not know this project.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SOURCE = Path(__file__).with_name("provider.c")
_API_VERSION = "0x000a0000"
"""Of sk-api.h, as OpenSSH has had it since 8.9; another is refused by ssh-keygen with the one that it wants."""


class SoftSecurityKey:
    """The key, with its library and its state in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.library = self.folder / "provider.so"
        build = ["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-DSK_API_VERSION={_API_VERSION}"]
        try:
            subprocess.run([*build, "-o", str(self.library), str(_SOURCE), "-lcrypto"], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise AssertionError(f"{error}: apt-get install gcc libc6-dev libssl-dev") from None

    @property
    def env(self) -> dict[str, str]:
        """What a program that uses the library needs in its environment."""
        return {"SPA_SOFT_KEY": str(self.folder)}

    @property
    def touches(self) -> int:
        """How often it has signed."""
        try:
            return (self.folder / "touches").stat().st_size
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def left_alone(self) -> Iterator[None]:
        """While the block runs nobody touches it."""
        mark = self.folder / "untouched"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()
