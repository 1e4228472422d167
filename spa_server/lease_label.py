"""Whose a lease is, as it is written beside it in the kernel: a device's label, or `LABEL+NAME` for a delegate of it.

No label has a '+' in it, so the two cannot be mistaken for each other. It must not know what a lease is.
"""

from __future__ import annotations

from spa_protocol.names import is_delegate_name, is_label

_JOINT = "+"


def lease_label(device: str, delegate: str = "") -> str:
    """What is written beside a lease of the device, or of its delegate."""
    return f"{device}{_JOINT}{delegate}" if delegate else device


def is_lease_label(text: str) -> bool:
    """Whether a text is written so."""
    device, joint, delegate = text.partition(_JOINT)
    return is_label(device) and (is_delegate_name(delegate) if joint else True)


def is_of(written: str, whose: str) -> bool:
    """Whether a lease belongs to `whose`: that device or any delegate of it, or that delegate alone."""
    return written == whose or (_JOINT not in whose and written.startswith(whose + _JOINT))
