"""Keys as people have them: made by ssh-keygen, held by a real ssh-agent. It must not know this project."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.security_key import SoftSecurityKey
from tests.stalls import PATIENCE_S, wait_until


def new_key(folder: Path, name: str = "id_ed25519", *, passphrase: str = "", kind: str = "ed25519") -> Path:
    """A key pair made by ssh-keygen; the private half's file, named `name`, which is its comment too."""
    return _keygen(folder / name, "-t", kind, passphrase=passphrase)


def new_security_key(folder: Path, key: SoftSecurityKey, name: str = "id_ed25519_sk", *options: str) -> Path:
    """A key pair of a security key's; the file holds the handle only."""
    words = [word for option in options for word in ("-O", option)]
    return _keygen(folder / name, "-t", "ed25519-sk", "-w", str(key.library), *words, env=key.env)


def _keygen(path: Path, *words: str, passphrase: str = "", env: dict[str, str] | None = None) -> Path:
    _run("ssh-keygen", "-q", "-N", passphrase, "-C", path.name, "-f", str(path), *words, env=env)
    return path


def fingerprint(path: Path) -> str:
    """What ssh-keygen says of it."""
    return _run("ssh-keygen", "-l", "-f", str(path)).split()[1]


def public_line(path: Path) -> str:
    """The line of its .pub file."""
    return path.with_name(path.name + ".pub").read_text().strip()


class KeyAgent:
    """A real ssh-agent; `with KeyAgent() as agent` runs one without keys."""

    def __init__(self, security_key: SoftSecurityKey | None = None) -> None:
        self._security_key = security_key
        # The path of a socket has room for 107 bytes, which pytest's folders may not leave.
        self._folder = Path(tempfile.mkdtemp(prefix="spa-agent-"))
        self.socket = self._folder / "agent"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> KeyAgent:
        providers = ["-P", str(self._security_key.library)] if self._security_key else []
        self._process = subprocess.Popen(
            [_program("ssh-agent"), "-D", "-a", str(self.socket), *providers],
            env={**os.environ, **(self._security_key.env if self._security_key else {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._listens, "the agent's socket")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def env(self) -> dict[str, str]:
        """What a program that uses the agent needs in its environment."""
        return {"SSH_AUTH_SOCK": str(self.socket)}

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def add(self, path: Path, *options: str) -> None:
        """Load a key that has no passphrase."""
        provider = ["-S", str(self._security_key.library)] if self._security_key else []
        _run("ssh-add", "-q", *provider, *options, str(path), env=self.env)

    def forget(self, path: Path) -> None:
        """Take a key out of it."""
        _run("ssh-add", "-q", "-d", str(path), env=self.env)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While the block runs it is locked."""
        asking = self._folder / "askpass"
        asking.write_text("#!/bin/sh\necho secret\n")
        asking.chmod(0o700)
        env = {**self.env, "SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force"}
        _run("ssh-add", "-x", env=env)
        try:
            yield
        finally:
            _run("ssh-add", "-X", env=env)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as channel:
            return channel.connect_ex(str(self.socket)) == 0


def _run(name: str, *words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [_program(name), *words],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name} {' '.join(words)}: {done.stderr}"
    return done.stdout


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"there is no {name}: apt-get install openssh-client"
    return found
