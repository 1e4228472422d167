"""One-time codes: time-based one-time passwords as authenticator apps make them (RFC 6238; HMAC-SHA-1, 30 s).

Pure: the secret, a code and the time go in; which step of time the code is of comes out.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from hashlib import sha1
from urllib.parse import quote, urlencode

STEP_S = 30
DIGITS = 6
SECRET_BYTES = 20
"""As long as the hash (RFC 4226, section 4)."""
STEPS_OFF = 1
"""Steps by which a phone's clock may be off, either way."""


def code_of(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of a step of time (RFC 4226, section 5.3)."""
    mac = hmac.new(secret, step.to_bytes(8, "big"), sha1).digest()
    at = mac[-1] & 15
    number = int.from_bytes(mac[at : at + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def step_of(secret: bytes, code: str, now_s: int, used_step: int) -> int | None:
    """The step that the code is of, if that is near now and later than the one used last; else None.

    Every step that may be is compared, so that the time taken does not tell which one fits.
    """
    present = now_s // STEP_S
    fits = None
    for step in range(present - STEPS_OFF, present + STEPS_OFF + 1):
        is_same = hmac.compare_digest(code_of(secret, max(step, 0)).encode(), code.encode())
        if is_same and step > used_step and fits is None:
            fits = step
    return fits


def uri(secret: bytes, user: str, issuer: str) -> str:
    """The text that authenticator apps read from a QR code."""
    label = quote(f"{issuer}:{user}", safe="@.")
    said = urlencode({"secret": b32encode(secret).decode().rstrip("="), "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{label}?{said}"
