"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) out of what `cryptography` has: ChaCha20-Poly1305."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


def encrypt(key: bytes, nonce: bytes, plain: bytes, additional: bytes) -> bytes:
    """Ciphertext and authenticator."""
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], plain, additional)


def decrypt(key: bytes, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
    """The plaintext; raises InvalidTag."""
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(bytes(4) + nonce[16:], sealed, additional)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20 (the draft's section 2.2): a subkey of 32 bytes from a key and 16 bytes of nonce."""
    x = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    columns = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
    diagonals = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
    for a, b, c, d in (columns + diagonals) * 10:
        for add_to, add, turn, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[add_to] = x[add_to] + x[add] & 0xFFFFFFFF
            x[turn] = _rotate(x[turn] ^ x[add_to], bits)
    return struct.pack("<8I", *x[:4], *x[12:])


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & 0xFFFFFFFF
