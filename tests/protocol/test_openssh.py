"""OpenSSH's keys, lines and fingerprints, held against ssh-keygen itself; the same key comes back from each form."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol import openssh
from spa_protocol.openssh import (
    UnusableKey,
    fingerprint,
    key_blob,
    public_line,
    read_key_blob,
    read_public_line,
    read_signature,
    ssh_string,
)
from spa_protocol.signature import Signature, SignatureKind, VerifyingKey
from tests.openssh import fingerprint as fingerprint_by_keygen
from tests.openssh import new_key, new_security_key
from tests.openssh import public_line as line_by_keygen
from tests.security_key import SoftSecurityKey

PLAIN = VerifyingKey(bytes(range(32)))
TOUCHED = VerifyingKey(bytes(range(32)), "ssh:")
APPLICATIONS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60).map("ssh:{}".format)
NO_SIGNATURE = "ends too early|more than belongs|not a signature"
KEYS = st.builds(VerifyingKey, st.binary(min_size=32, max_size=32), st.just("") | APPLICATIONS)


def test_it_reads_and_names_a_key_as_ssh_keygen_does(tmp_path: Path) -> None:
    made = [new_key(tmp_path), new_security_key(tmp_path, SoftSecurityKey(tmp_path))]
    for path in made:
        line = read_public_line(line_by_keygen(path))
        assert public_line(line.key, line.comment) == line_by_keygen(path)
        assert fingerprint(line.key) == fingerprint_by_keygen(path)
        assert (line.comment, line.options) == (path.name, "")
    assert read_public_line(line_by_keygen(made[1])).key.application == "ssh:"


@given(KEYS)
def test_every_key_comes_back_from_its_forms(key: VerifyingKey) -> None:
    assert read_key_blob(key_blob(key)) == key
    line = read_public_line(public_line(key, "alice@laptop 2026"))
    assert (line.key, line.comment) == (key, "alice@laptop 2026")


@given(KEYS, st.data())
def test_a_blob_that_was_cut_or_grew_is_no_key(key: VerifyingKey, data: st.DataObject) -> None:
    blob = key_blob(key)
    for damaged in (blob[: data.draw(st.integers(0, len(blob) - 1))], blob + b"\0"):
        with pytest.raises(UnusableKey):
            read_key_blob(damaged)


@given(st.binary(max_size=200))
def test_whatever_else_there_is_is_refused(data: bytes) -> None:
    with pytest.raises(UnusableKey):
        read_key_blob(data)
    with pytest.raises(ValueError, match=NO_SIGNATURE):
        read_signature(data, SignatureKind.SK_ED25519)


def test_options_before_the_key_are_told_apart_from_it() -> None:
    options = 'from="10.0.0.0/8, 192.168.0.0/16",no-pty,command="echo \\"hi there\\""'
    line = read_public_line(f"{options} {public_line(PLAIN, 'ci')}")
    assert (line.key, line.comment, line.options) == (PLAIN, "ci", options)


RSA = "ssh-rsa " + b64encode(ssh_string(b"ssh-rsa") + ssh_string(b"\x03") + ssh_string(bytes(256))).decode()
UNUSABLE = {
    RSA: "ssh-keygen -t ed25519$",
    "no-pty " + RSA: "ssh-keygen -t ed25519$",
    "ecdsa-sha2-nistp256 AAAA": "ssh-keygen -t ed25519$",
    "sk-ecdsa-sha2-nistp256@openssh.com AAAA": "ssh-keygen -t ed25519-sk$",
    "ssh-ed25519-cert-v01@openssh.com AAAA": "the key's own .pub",
    "-----BEGIN OPENSSH PRIVATE KEY-----": "a private key",
    "ssh-ed25519": "damaged",
    "ssh-ed25519 ????": "not base64",
    public_line(PLAIN)[:-4]: "damaged",
    public_line(PLAIN).replace("ssh-ed25519", "sk-ssh-ed25519@openssh.com", 1): "the line says",
    "ssh-ed25519 " + b64encode(RSA.encode()).decode(): "damaged",
    public_line(PLAIN) + "\n" + public_line(PLAIN): "more than one line",
    "hello there": "begins with ssh-ed25519",
    "": "begins with ssh-ed25519",
}


@pytest.mark.parametrize(("line", "why"), UNUSABLE.items())
def test_a_key_that_cannot_sign_is_refused_with_what_to_do(line: str, why: str) -> None:
    with pytest.raises(UnusableKey, match=why):
        read_public_line(line)


@pytest.mark.parametrize("application", ["", "web", "ssh:" + "x" * 61, "ssh:ü"])
def test_a_security_key_for_anything_but_ssh_is_refused(application: str) -> None:
    strings = (b"sk-ssh-ed25519@openssh.com", bytes(32), application.encode())
    with pytest.raises(UnusableKey):
        read_key_blob(b"".join(map(ssh_string, strings)))


def test_a_signature_is_of_the_keys_kind_and_has_all_its_parts() -> None:
    plain = ssh_string(openssh.ED25519.encode()) + ssh_string(bytes(64))
    touched = ssh_string(openssh.SK_ED25519.encode()) + ssh_string(bytes(64)) + b"\x05\x00\x00\x01\x02"
    assert read_signature(plain, SignatureKind.ED25519) == Signature(bytes(64))
    assert read_signature(touched, SignatureKind.SK_ED25519) == Signature(bytes(64), 5, 258)
    wrong = [
        (plain, SignatureKind.SK_ED25519),
        (touched, SignatureKind.ED25519),
        (plain + b"\0", SignatureKind.ED25519),
    ]
    wrong += [(touched[:-1], SignatureKind.SK_ED25519), (touched + b"\0", SignatureKind.SK_ED25519)]
    for blob, kind in wrong:
        with pytest.raises(ValueError, match=NO_SIGNATURE):
            read_signature(blob, kind)
