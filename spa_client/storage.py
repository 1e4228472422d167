"""Where the joined perimeters are kept: the one place that knows the layout of the client's files.

    FOLDER/NAME/perimeter.toml      where the server is and what it told; nothing secret
    FOLDER/NAME/device.key          the device's signing seed, as text (mode 0600); none where the key is elsewhere
    FOLDER/NAME/gate.secret         the gate secret, as text (mode 0600)
    FOLDER/.default                 the name of the perimeter that is meant where none is named
    FOLDER/.joining-INVITE/         the same for a join whose answer has not come yet (see `joining`)
    STATE/NAME/                     what may be lost (see `memory`): used slots, addresses that may be signed

FOLDER is the platform's configuration folder, STATE its state folder; the variable SPA_CLIENT_FOLDER replaces FOLDER,
and STATE is then FOLDER/.state. It must not know of sockets.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from spa_client.default_choice import DefaultChoice
from spa_client.errors import BadConfiguration, BadUsage, SpaError
from spa_client.memory import Memory
from spa_client.perimeter import NAME_RULE, USUAL_SLOTS, Perimeter, is_perimeter_name
from spa_client.perimeter_file import parse_perimeter, parse_place, perimeter_text
from spa_client.secret_file import make_folder, read_file, read_secret, sync_folder, write_file
from spa_client.signing.place import OWN_FILE, KeyKind, KeyPlace
from spa_client.signing.signers import signer_at
from spa_protocol.names import is_service_name
from spa_protocol.signature import Signer
from spa_protocol.text import BadText, TextKind, decode_key, encode

FOLDER_VARIABLE = "SPA_CLIENT_FOLDER"
PERIMETER_FILE = "perimeter.toml"
KEY_FILE = "device.key"
SECRET_FILE = "gate.secret"  # noqa: S105 - a file's name


class Store:
    """The perimeters of this user."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self._state = state
        self._choice = DefaultChoice(folder / ".default")

    @classmethod
    def default(cls) -> Store:
        """The store of the platform's folders, or of SPA_CLIENT_FOLDER."""
        chosen = os.environ.get(FOLDER_VARIABLE)
        if chosen:
            folder = Path(chosen).absolute()
            return cls(folder, folder / ".state")
        import platformdirs

        return cls(
            Path(platformdirs.user_config_dir("spa", appauthor=False)),
            Path(platformdirs.user_state_dir("spa", appauthor=False)),
        )

    def names(self) -> tuple[str, ...]:
        """The perimeters joined, sorted."""
        try:
            return tuple(sorted(path.name for path in self.folder.iterdir() if is_perimeter_name(path.name)))
        except FileNotFoundError:
            return ()

    def load(self, name: str | None = None) -> Perimeter:
        """The perimeter of that name, or without a name the default one. Raises BadConfiguration and NotPermitted."""
        name = self.default_name() if name is None else name
        folder = self.path(name)
        text = read_file(folder / PERIMETER_FILE)
        gate_secret = _read_secret(folder / SECRET_FILE)

        def signer(place: KeyPlace) -> Signer:
            return signer_at(place, folder / KEY_FILE)

        return parse_perimeter(text, folder / PERIMETER_FILE, name, signer, gate_secret)

    def path(self, name: str) -> Path:
        """The folder of a joined perimeter; raises BadConfiguration when there is none."""
        if not is_perimeter_name(name) or not (self.folder / name).is_dir():
            raise BadConfiguration(self._absent(name))
        return self.folder / name

    def save(self, perimeter: Perimeter) -> None:
        """Write what is not secret of a joined perimeter. Raises OSError."""
        write_file(self.path(perimeter.name) / PERIMETER_FILE, perimeter_text(perimeter))

    def adopt(self, folder: Path, perimeter: Perimeter) -> None:
        """Make a finished folder, which holds the device's key, the perimeter of that name, in one step.

        A perimeter that has the name is replaced. Raises OSError.
        """
        write_file(folder / SECRET_FILE, encode(TextKind.GATE_SECRET, perimeter.gate_secret) + "\n")
        write_file(folder / PERIMETER_FILE, perimeter_text(perimeter))
        target = self.folder / perimeter.name
        if target.exists():
            replaced = self.folder / f".replaced-{os.urandom(8).hex()}"
            target.rename(replaced)
            folder.rename(target)
            _forget(replaced)
        else:
            folder.rename(target)
        self._forget_state(perimeter.name)
        sync_folder(self.folder)

    def remove(self, name: str) -> None:
        """Forget a perimeter, its key included. Raises BadConfiguration and OSError."""
        folder = self.path(name)
        # The rename makes it one step: half a perimeter is never left under its name.
        doomed = self.folder / f".removed-{os.urandom(8).hex()}"
        was_default = self._choice.read(self.names()) == name
        folder.rename(doomed)
        _forget(doomed)
        self._forget_state(name)
        if was_default:
            self._choice.forget()

    def rename(self, old: str, new: str) -> None:
        """Give a perimeter another name, and leave all else of it as it is. Raises SpaError and OSError."""
        folder = self.path(old)
        if not is_perimeter_name(new):
            raise BadUsage(f"{new!r} cannot name a perimeter: {NAME_RULE}")
        if (self.folder / new).exists():
            raise BadUsage(f"there is a perimeter named {new} already: choose another name, or remove that one first")
        was_default = self._choice.read(self.names()) == old
        folder.rename(self.folder / new)
        self._forget_state(new)
        with contextlib.suppress(OSError):
            (self._state / old).rename(self._state / new)
        if was_default:
            self._choice.write(new)
        sync_folder(self.folder)

    def default_name(self) -> str:
        """The perimeter that is meant where none is named: the one chosen, or the only one. Raises BadConfiguration."""
        names = self.names()
        if chosen := self._choice.read(names):
            return chosen
        if len(names) == 1:
            return names[0]
        if not names:
            raise BadConfiguration(self._none())
        raise BadConfiguration(
            f"several perimeters are joined, name one of them: {', '.join(names)};"
            " or choose one for good: spa-client default NAME"
        )

    def service_names(self, name: str | None = None) -> tuple[str, ...]:
        """The services known of a perimeter, without a look at its secrets; none where its file cannot be read."""
        import tomllib

        try:
            text = read_file(self.path(self.default_name() if name is None else name) / PERIMETER_FILE)
            tables = tomllib.loads(text).get("service", [])
        except (SpaError, OSError, tomllib.TOMLDecodeError):
            return ()
        listed = tables if isinstance(tables, list) else []
        names = (str(table.get("name")) for table in listed if isinstance(table, dict))
        return tuple(filter(is_service_name, names))

    def choose_default(self, name: str | None) -> None:
        """Have that perimeter meant where none is named, or with None no longer any. Raises SpaError and OSError."""
        if name is None:
            self._choice.forget()
        else:
            self._choice.write(self.path(name).name)

    def state(self, name: str) -> Path:
        """The folder of what may be lost of a perimeter; it need not be there."""
        return self._state / name

    def memory(self, name: str, slots: int = USUAL_SLOTS) -> Memory:
        """What is remembered of knocks at a perimeter, which takes so many a minute."""
        return Memory.kept_in(self.state(name), slots)

    def for_session(self) -> Store:
        """The same perimeters for a key in memory: it leaves their files alone, and remembers its own slots."""
        return _SessionStore(self.folder, self._state)

    def joining_folder(self, digest: str) -> Path:
        """The folder of a join that is under way; it is not made here."""
        make_folder(self.folder)
        return self.folder / f".joining-{digest}"

    def _absent(self, name: str) -> str:
        from spa_client.meant import perimeter_hint

        names = self.names()
        if not names:
            return self._none()
        known: list[Perimeter] = []
        for each in names:
            with contextlib.suppress(SpaError, OSError):
                known.append(self.load(each))
        return f"no perimeter named {name} (joined: {', '.join(names)})" + perimeter_hint(name, names, known)

    def _none(self) -> str:
        from spa_client.meant import folder_hint

        return f"no perimeter is joined yet{folder_hint(self.folder, FOLDER_VARIABLE)}: spa-client join INVITE"

    def _forget_state(self, name: str) -> None:
        with contextlib.suppress(OSError):
            _remove_tree(self.state(name))


class _SessionStore(Store):
    """What a session sees of the perimeters (see `session_key`)."""

    def save(self, perimeter: Perimeter) -> None:
        """What the server told a delegate is not the device's."""

    def memory(self, name: str, slots: int = USUAL_SLOTS) -> Memory:
        # Of the server's trail there is one, whoever asks.
        checkpoint = super().memory(name, slots).checkpoint
        return replace(Memory.kept_in(self._state / name / "session", slots), checkpoint=checkpoint)


def _read_secret(path: Path) -> bytes:
    try:
        return decode_key(TextKind.GATE_SECRET, read_secret(path))
    except BadText as error:
        raise BadConfiguration(f"{path} is damaged ({error}): join again with a new invite") from None


def _forget(folder: Path) -> None:
    """Delete the folder of a perimeter, and its key where that was made for it and is kept elsewhere."""
    try:
        place = parse_place(read_file(folder / PERIMETER_FILE), folder / PERIMETER_FILE)
    except (SpaError, OSError):
        place = OWN_FILE
    if place.kind is KeyKind.KEYRING:
        from spa_client.signing.own_key import discard

        discard(place)
    _remove_tree(folder)


def _remove_tree(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
