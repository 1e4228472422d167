"""perimeter.toml: what is not secret about a perimeter, as text that people may edit.

It must not know where the file is, except to name it in an error.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spa_client.errors import BadConfiguration
from spa_client.perimeter import LOCAL, SEEN, USUAL_SLOTS, KnownService, Perimeter
from spa_client.posture.telling import Telling
from spa_client.signing.place import OWN_FILE, KeyKind, KeyPlace
from spa_protocol.delegation import Certificate
from spa_protocol.limits import MAX_HOSTS, MAX_KNOCK_PORTS, MAX_SLOTS
from spa_protocol.names import is_label, is_service_name
from spa_protocol.place import is_host
from spa_protocol.signature import Signer
from spa_protocol.text import BadText, TextKind, decode_key, decode_verifying_key, encode

_HEAD = """\
# Written by spa-client. Nothing here is secret: the secrets are in the files beside this one.
# source: "seen" opens for the address the server sees; "local" signs this computer's own; or give an address.
# posture: what the server is told of this computer's health: "on", "off" or "osquery" (spa-client posture).
# slots: how many knocks the server takes from this device in a minute; its answers set it.
# key: where the device's key is kept, where that is not device.key; public_key: which it is.
"""


def perimeter_text(perimeter: Perimeter) -> str:
    """The file's text. A JSON string is a TOML string too, for the printable ASCII that stands here."""
    import json

    lines = [
        f"hosts = {json.dumps(list(perimeter.hosts))}",
        f"knock_ports = {json.dumps(list(perimeter.knock_ports))}",
        f"server_identity = {json.dumps(perimeter.server_text)}",
        f"label = {json.dumps(perimeter.label)}",
        f"source = {json.dumps(perimeter.source)}",
        f"answers = {json.dumps(perimeter.answers)}",
        f"posture = {json.dumps(perimeter.posture.value)}",
        f"slots = {perimeter.slots}",
        *_key_lines(perimeter.place),
    ]
    if perimeter.certificate is not None:
        lines.append(f"certificate = {json.dumps(perimeter.certificate.to_bytes().hex())}")
    for service in perimeter.services:
        lines += [
            "",
            "[[service]]",
            f"name = {json.dumps(service.name)}",
            f"tcp_port = {service.tcp_port}",
            f"udp_port = {service.udp_port}",
            f"needs_signed_source = {json.dumps(service.needs_signed_source)}",
        ]
    return _HEAD + "\n".join(lines) + "\n"


def _key_lines(place: KeyPlace) -> list[str]:
    import json

    if place.kind is KeyKind.OWN:
        return []
    lines = [f"key = {json.dumps(place.kind.value)}"]
    if place.public is not None:
        lines.append(f"public_key = {json.dumps(encode(TextKind.DEVICE, place.public.to_bytes()))}")
    # A path may hold any printable character.
    return [*lines, f"key_file = {json.dumps(place.path, ensure_ascii=False)}"] if place.path else lines


def parse_perimeter(
    text: str, path: Path, name: str, signer_at: Callable[[KeyPlace], Signer], gate_secret: bytes
) -> Perimeter:
    """The perimeter in a file's text; raises BadConfiguration that names the key at fault.

    `signer_at`: who signs with the key at a place.
    """
    reader = _Reader.of(text, path)
    hosts = reader.value("hosts", list)
    if not 1 <= len(hosts) <= MAX_HOSTS or not all(isinstance(host, str) and is_host(host) for host in hosts):
        raise reader.wrong("hosts", f"a list of one to {MAX_HOSTS} host names or addresses")
    try:
        identity = decode_key(TextKind.SERVER, reader.value("server_identity", str))
    except BadText as error:
        raise reader.wrong("server_identity", f"the server's identity ({error})") from None
    label = reader.value("label", str)
    if not is_label(label):
        raise reader.wrong("label", "letters, digits, '.', '_' and '-'")
    place = _place(reader)
    return Perimeter(
        name=name,
        hosts=tuple(hosts),
        knock_ports=_knock_ports(reader),
        server_identity=identity,
        label=label,
        signer=signer_at(place),
        gate_secret=gate_secret,
        source=_source(reader),
        answers=reader.value("answers", bool, True),
        slots=_slots(reader),
        services=_services(reader),
        certificate=_certificate(reader),
        place=place,
        posture=_posture(reader),
    )


def parse_place(text: str, path: Path) -> KeyPlace:
    """Where the device's key is kept, out of a file's text; raises BadConfiguration."""
    return _place(_Reader.of(text, path))


def _place(reader: _Reader) -> KeyPlace:
    try:
        kind = KeyKind(reader.value("key", str, KeyKind.OWN.value))
    except ValueError:
        raise reader.wrong("key", f"one of {', '.join(kind.value for kind in KeyKind)}") from None
    if kind is KeyKind.OWN:
        return OWN_FILE
    try:
        public = decode_verifying_key(reader.value("public_key", str))
    except BadText as error:
        raise reader.wrong("public_key", f"this device's public key ({error})") from None
    path = reader.value("key_file", str, "")
    if (kind is KeyKind.FILE) != bool(path):
        raise reader.wrong("key_file", 'the key\'s file, where key is "file", and only there')
    return KeyPlace(kind, public, path)


def _certificate(reader: _Reader) -> Certificate | None:
    text = reader.value("certificate", str, "")
    try:
        return Certificate.from_bytes(bytes.fromhex(text)) if text else None
    except ValueError:
        raise reader.wrong("certificate", "a delegation's certificate in hexadecimal digits") from None


def _knock_ports(reader: _Reader) -> tuple[int, ...]:
    ports = reader.value("knock_ports", list)
    whole = all(type(port) is int and 0 < port < 1 << 16 for port in ports)
    if not whole or not 1 <= len(ports) <= MAX_KNOCK_PORTS or len(set(ports)) != len(ports):
        raise reader.wrong("knock_ports", f"a list of one to {MAX_KNOCK_PORTS} ports from 1 to 65535")
    return tuple(ports)


def _source(reader: _Reader) -> str:
    source = str(reader.value("source", str, SEEN))
    if source not in (SEEN, LOCAL):
        try:
            ip_address(source)
        except ValueError:
            raise reader.wrong("source", '"seen", "local" or an IP address') from None
    return source


def _posture(reader: _Reader) -> Telling:
    try:
        return Telling(reader.value("posture", str, Telling.ON.value))
    except ValueError:
        raise reader.wrong("posture", f"one of {', '.join(telling.value for telling in Telling)}") from None


def _slots(reader: _Reader) -> int:
    slots = int(reader.value("slots", int, USUAL_SLOTS))
    if not 1 <= slots <= MAX_SLOTS:
        raise reader.wrong("slots", f"a number from 1 to {MAX_SLOTS}")
    return slots


def _services(reader: _Reader) -> tuple[KnownService, ...]:
    services: list[KnownService] = []
    for table in reader.value("service", list, []):
        if not isinstance(table, dict):
            raise reader.wrong("service", "tables [[service]]")
        entry = _Reader(reader.path, table)
        name = entry.value("name", str)
        if not is_service_name(name):
            raise entry.wrong("name", "small letters, digits and '-'")
        tcp_port, udp_port = entry.port("tcp_port"), entry.port("udp_port")
        services.append(KnownService(name, tcp_port, udp_port, entry.value("needs_signed_source", bool, False)))
    return tuple(services)


class _Reader:
    """Takes typed values out of a table."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path = path
        self._table = table

    @classmethod
    def of(cls, text: str, path: Path) -> _Reader:
        """A file's table; raises BadConfiguration."""
        import tomllib

        try:
            return cls(path, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise BadConfiguration(f"{path}: {error}") from None

    def value(self, key: str, kind: type, default: object = None) -> Any:
        """The value of a key; raises BadConfiguration when it is missing without a default, or of another type."""
        value = self._table.get(key, default)
        if type(value) is not kind:
            raise self.wrong(key, f"a {kind.__name__}")
        return value

    def port(self, key: str) -> int:
        """A port number; 0 where there is none."""
        port = self.value(key, int, 0)
        if not 0 <= port <= 65535:
            raise self.wrong(key, "a port from 0 to 65535")
        return int(port)

    def wrong(self, key: str, wanted: str) -> BadConfiguration:
        """The error for that key."""
        return BadConfiguration(f"{self.path}: {key} must be {wanted}")
