"""Which names there may be for services, roles, devices and users (docs/protocol.md, section 4.3)."""

from __future__ import annotations

import re

_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,23}\Z")
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_DELEGATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}\Z")
_USER = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")


def is_service_name(text: str) -> bool:
    """A small letter, then at most 23 of a-z, 0-9 and '-'."""
    return _SERVICE.match(text) is not None


def is_role(text: str) -> bool:
    """A small letter, then at most 30 of a-z, 0-9 and '-'."""
    return _ROLE.match(text) is not None


def is_label(text: str) -> bool:
    """A device's name: a letter or digit, then at most 62 letters, digits, '.', '_' and '-'."""
    return _LABEL.match(text) is not None


def is_delegate_name(text: str) -> bool:
    """What a delegate is called: a letter or digit, then at most 23 letters, digits, '.', '_' and '-'."""
    return _DELEGATE.match(text) is not None


def is_user(text: str) -> bool:
    """1 to 64 letters, digits and '.', '_', '@', '+', '-'."""
    return _USER.match(text) is not None
