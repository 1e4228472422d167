"""The files: who may read them, and what happens to those that are not as they should be."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spa_client.errors import BadConfiguration, NotPermitted, SpaError
from spa_client.perimeter import KnownService, Perimeter
from spa_client.secret_file import write_file
from spa_client.storage import FOLDER_VARIABLE, Store
from spa_protocol.signature import SeedSigner

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
NOBODY = 65534
SECRETS = ["device.key", "gate.secret"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach."""
    made = Path(tempfile.mkdtemp(prefix="spa-client-"))
    made.chmod(0o777)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def as_nobody(action: Callable[[], object]) -> str:
    """What an ordinary user gets from an action: the type and text of its error, or its value. Needs a fork."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            said = repr(action())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said_file:
        said = said_file.read()
    os.waitpid(pid, 0)
    return said


SIGNER = SeedSigner(bytes(32))


def made(store: Store, name: str = "office") -> Perimeter:
    """A perimeter stored without any server."""
    perimeter = Perimeter(name, ("office.example.com", "2001:db8::1"), (62201,), bytes(32), "laptop", SIGNER, bytes(32))
    folder = store.joining_folder(name)
    folder.mkdir(mode=0o700)
    from spa_protocol.text import TextKind, encode

    write_file(folder / "device.key", encode(TextKind.SECRET_KEY, SIGNER.seed))
    store.adopt(folder, perimeter)
    return perimeter


def test_what_is_stored_is_what_is_loaded(store: Store) -> None:
    perimeter = replace(
        made(store),
        source="2001:db8::5",
        answers=False,
        slots=32,
        services=(KnownService("web", 8443, 0, False), KnownService("dns", 53, 53, True)),
    )
    store.save(perimeter)
    assert store.load("office") == perimeter


def test_every_file_is_its_owners_alone_whatever_the_umask(store: Store) -> None:
    before = os.umask(0)
    try:
        made(store)
    finally:
        os.umask(before)
    folder = store.folder / "office"
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "device.key": 0o600,
        "gate.secret": 0o600,
        "perimeter.toml": 0o600,
    }


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666])
@pytest.mark.file_modes
def test_a_secret_that_others_could_reach_is_refused(name: str, mode: int, store: Store) -> None:
    made(store)
    path = store.folder / "office" / name
    path.chmod(mode)
    with pytest.raises(NotPermitted, match=f"chmod 600 '{path}'") as caught:
        store.load("office")
    assert caught.value.exit_code == 6


@pytest.mark.file_modes
def test_an_ordinary_user_is_refused_likewise(open_folder: Path) -> None:
    store = Store(open_folder / "spa", open_folder / "state")

    def make_and_load() -> str:
        made(store)
        (store.folder / "office" / "device.key").chmod(0o644)
        return store.load("office").name

    assert as_nobody(make_and_load).startswith("NotPermitted: ")
    assert "chmod 600" in as_nobody(lambda: store.load("office"))


def test_an_ordinary_user_can_use_what_is_his(open_folder: Path) -> None:
    store = Store(open_folder / "spa", open_folder / "state")
    assert as_nobody(lambda: made(store) == store.load("office")) == "True"


@pytest.mark.skipif(os.getuid() != 0 if hasattr(os, "getuid") else True, reason="only root can give files away")
@pytest.mark.file_modes
def test_a_secret_of_somebody_else_is_refused(store: Store) -> None:
    made(store)
    os.chown(store.folder / "office" / "gate.secret", NOBODY, NOBODY)
    with pytest.raises(NotPermitted, match=f"belongs to user {NOBODY}, not to you"):
        store.load("office")


@pytest.mark.skipif(os.getuid() != 0 if hasattr(os, "getuid") else True, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_one_line(open_folder: Path) -> None:
    store = Store(open_folder / "spa", open_folder / "state")
    made(store)
    store.folder.chmod(0o755)
    (store.folder / "office").chmod(0o755)
    assert "cannot be read by this user" in as_nobody(lambda: store.load("office"))


@pytest.mark.parametrize("name", [*SECRETS, "perimeter.toml"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff\xfe", b"spa-secret-key1qqqq", b"x" * 100_000, b"a = ["])
def test_a_damaged_file_is_named(name: str, content: bytes, store: Store) -> None:
    made(store)
    path = store.folder / "office" / name
    path.write_bytes(content)
    with pytest.raises(BadConfiguration, match=str(path)):
        store.load("office")


@pytest.mark.parametrize("name", [*SECRETS, "perimeter.toml"])
def test_a_missing_file_is_named(name: str, store: Store) -> None:
    made(store)
    (store.folder / "office" / name).unlink()
    with pytest.raises(BadConfiguration, match=f"{name} is missing"):
        store.load("office")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hosts", '"office"'),
        ("hosts", "[]"),
        ("hosts", '["a b"]'),
        ("hosts", "[1]"),
        ("hosts", '["a", "b", "c", "d", "e"]'),
        ("knock_ports", "[]"),
        ("knock_ports", "[0]"),
        ("knock_ports", "[65536]"),
        ("knock_ports", "62201"),
        ("knock_ports", '["62201"]'),
        ("knock_ports", "[true]"),
        ("knock_ports", "[443, 443]"),
        ("knock_ports", "[1, 2, 3, 4, 5]"),
        ("server_identity", '"spa-server1qqqq"'),
        ("label", '"a b"'),
        ("source", '"anybody"'),
        ("answers", '"no"'),
        ("slots", "0"),
        ("slots", "65"),
        ("service", "[1]"),
        ("service", '[{name = "Web"}]'),
        ("service", '[{name = "web", tcp_port = 70000}]'),
    ],
)
def test_a_wrong_value_is_named_by_its_key(key: str, value: str, store: Store) -> None:
    made(store)
    path = store.folder / "office" / "perimeter.toml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} =")]
    path.write_text("\n".join([*kept, f"{key} = {value}"]))
    inner = {"Web": "name", "70000": "tcp_port"}
    named = next((inner[mark] for mark in inner if mark in value), key)
    with pytest.raises(BadConfiguration, match=f"{named} must be"):
        store.load("office")


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    perimeter = made(store)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.save(replace(perimeter, label="other"))
    assert store.load("office") == perimeter
    assert len(list((store.folder / "office").iterdir())) == 3


def test_removing_forgets_the_memory_too(store: Store) -> None:
    made(store)
    store.memory("office").slots.claim(60_000)
    store.remove("office")
    assert store.names() == ()
    assert [path.name for path in store.folder.iterdir()] == [".state"]
    assert not list((store.folder / ".state").iterdir())


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../office", "other"])
def test_no_name_leads_out_of_the_folder(name: str, store: Store) -> None:
    made(store)
    for action in (store.load, store.path, store.remove):
        with pytest.raises(BadConfiguration, match="no perimeter named"):
            action(name)
    assert store.names() == ("office",)


def test_the_only_perimeter_needs_no_name(store: Store) -> None:
    with pytest.raises(BadConfiguration, match="no perimeter is joined yet"):
        store.load()
    made(store)
    assert store.load().name == "office"
    made(store, "home")
    with pytest.raises(BadConfiguration, match="name one of them: home, office"):
        store.load()


def test_the_platforms_folders_are_used_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in Store.default().folder.parents
    assert Store.default().names() == ()


def test_errors_never_hold_a_secret(store: Store) -> None:
    made(store)
    path = store.folder / "office" / "device.key"
    secret = path.read_text()
    path.write_text(secret[:-1] + ("Q" if secret[-1] != "Q" else "P"))
    with pytest.raises(SpaError) as caught:
        store.load("office")
    assert secret[20:40] not in json.dumps(str(caught.value))
