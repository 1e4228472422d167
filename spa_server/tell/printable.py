"""A text from outside as one line of what can be seen: nothing in it that a terminal, or the eye, would obey."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text, with escapes for control characters, line ends and marks that turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
