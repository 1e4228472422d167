"""Where keys come in: OpenSSH's lines and files, what a key agent answers, the line that provisions a device."""

from __future__ import annotations

import io
from base64 import b64encode
from contextlib import suppress
from unittest.mock import patch

from spa_client.errors import BadSurroundings
from spa_client.signing import agent
from spa_client.signing.agent_channel import read_answer
from spa_client.signing.openssh_file import read_public_half
from spa_protocol.openssh import (
    SK_ED25519,
    UnusableKey,
    key_blob,
    public_line,
    read_key_blob,
    read_public_line,
    read_signature,
    ssh_string,
)
from spa_protocol.place import Place
from spa_protocol.provision import Provision
from spa_protocol.signature import SignatureKind, VerifyingKey
from spa_protocol.text import BadText
from tests.fuzz.target import Target

_PLAIN, _TOUCHED = VerifyingKey(bytes(32)), VerifyingKey(bytes(range(32)), "ssh:web")


def _openssh_key(data: bytes) -> None:
    with suppress(UnusableKey):
        assert key_blob(read_key_blob(data)) == data
    for kind in SignatureKind:
        with suppress(ValueError):
            read_signature(data, kind)


def _openssh_line(data: bytes) -> None:
    with suppress(UnusableKey):
        line = read_public_line(data.decode("utf-8", "surrogateescape"))
        assert read_public_line(public_line(line.key)).key == line.key


def _openssh_file(data: bytes) -> None:
    """What is within the armour; the armour itself would keep a fuzzer out."""
    body = b64encode(data).decode("ascii")
    with suppress(UnusableKey):
        read_public_half(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
    with suppress(UnusableKey):
        read_public_half(data.decode("utf-8", "surrogateescape"))


def _agent_answer(data: bytes) -> None:
    """Whatever comes out of the agent's socket: its keys, or one sentence."""

    def ask(request: bytes, timeout_s: float) -> bytes:
        try:
            return read_answer(io.BytesIO(data).read)
        except EOFError as error:
            raise BadSurroundings(str(error)) from None

    with patch.object(agent, "ask_agent", ask), suppress(BadSurroundings):
        for held in agent.identities():
            assert str(held).isprintable()


def _provision(data: bytes) -> None:
    with suppress(BadText):
        given = Provision.parse(data.decode("utf-8", "surrogateescape"))
        assert Provision.parse(given.text()) == given


_BLOBS = (key_blob(_PLAIN), key_blob(_TOUCHED))
_SIGNATURE = ssh_string(SK_ED25519.encode()) + ssh_string(bytes(64)) + b"\x01\0\0\0\x07"
_HELD = b"\x0c\0\0\0\x02" + b"".join(ssh_string(blob) + ssh_string(b"alice@laptop") for blob in _BLOBS)
_FILE = b"openssh-key-v1\0" + b"".join(map(ssh_string, (b"none", b"none", b""))) + b"\0\0\0\1" + ssh_string(_BLOBS[0])
_GIVEN = Provision("build-1", _TOUCHED, bytes(32), bytes(32), Place((62201, 443), ("gw.example.org", "::1")))

KEY_TARGETS = {
    "openssh_key": Target(_openssh_key, (*_BLOBS, _SIGNATURE), 200),
    "openssh_line": Target(
        _openssh_line,
        (public_line(_PLAIN, "alice").encode(), f'from="a b",no-pty {public_line(_TOUCHED)}'.encode()),
        400,
    ),
    "openssh_file": Target(_openssh_file, (_FILE,), 400),
    "agent_answer": Target(_agent_answer, (ssh_string(_HELD), ssh_string(b"\x05")), 500),
    "provision": Target(_provision, (_GIVEN.text().encode(),), 700),
}
