"""The public key that `spa-server device add` is given, in any of the forms in which people have one.

It must not know the registry.
"""

from __future__ import annotations

import re
from pathlib import Path

from spa_protocol.openssh import UnusableKey, read_public_line
from spa_protocol.signature import VerifyingKey
from spa_protocol.text import BadText, TextKind, decode_verifying_key
from spa_server.commands.exits import Exit, Stop

_OPTION = re.compile(r'([A-Za-z0-9-]+)(="(?:\\.|[^"\\])*")?(?:,|\Z)')
_RESTRICTING = {
    "from": "it bars addresses; give the services roles and sources instead",
    "expiry-time": "it ends the key's time; disable or remove the device then",
    "cert-authority": "it lets other keys in; add each of those",
    "verify-required": "it asks for a PIN, which knocks do not show",
}
"""Options whose loss would let somebody in whom the line keeps out, and what to do."""
_LONGEST_FILE = 16 * 1024


def read_device_key(given: str) -> tuple[VerifyingKey, tuple[str, ...]]:
    """The key, and the options of its line that mean nothing for a knock: those of the SSH session.

    `given`: spa-device1..., a line as in authorized_keys, or @FILE with either. Raises Stop.
    """
    text = _read(Path(given[1:])) if given.startswith("@") else given.strip()
    try:
        if text.lower().startswith(TextKind.DEVICE.prefix):
            return decode_verifying_key(text), ()
        line = read_public_line(text)
    except (BadText, UnusableKey) as error:
        raise Stop(Exit.USAGE, f"--key: {error}") from error
    return line.key, _harmless(line.options)


def _harmless(options: str) -> tuple[str, ...]:
    names: list[str] = []
    at = 0
    while at < len(options):
        option = _OPTION.match(options, at)
        if option is None:
            raise Stop(Exit.USAGE, "--key: what stands before the key cannot be read; give the key without options")
        name, at = option[1].lower(), option.end()
        if name in _RESTRICTING:
            raise Stop(
                Exit.USAGE,
                f"--key: the option {name} would not be honoured: {_RESTRICTING[name]}, and give the key without it",
            )
        names.append(name)
    return tuple(names)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE)
    except OSError as error:
        raise Stop(Exit.FAULT, f"--key: {path}: {error.strerror or error}") from error
    lines = [line for line in content.decode("utf-8", "replace").splitlines() if line.strip() and line[0] != "#"]
    if len(lines) != 1:
        raise Stop(Exit.USAGE, f"--key: {path} holds {len(lines)} keys; it takes a file with one")
    return lines[0].strip()
