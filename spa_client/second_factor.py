"""Where the code comes from that a server asks for as a second factor: given beforehand, or typed by a person.

A code counts once, so it is given out once. It must not know how it is sent.
"""

from __future__ import annotations

from collections.abc import Callable

from spa_client.errors import BadUsage

CodeSource = Callable[[], str]
"""Called when the server asks for a code; "" when there is none."""


def no_code() -> str:
    """There is none."""
    return ""


def code_source(code: str | CodeSource | None) -> CodeSource:
    """The source of what a caller gave. Raises BadUsage for a text that cannot be a code."""
    if code is None:
        return no_code
    return code if callable(code) else given_once(code)


def given_once(code: str, otherwise: CodeSource = no_code) -> CodeSource:
    """A source that gives this code the first time, and later what `otherwise` gives. Raises BadUsage."""
    left = [checked(code)]
    return lambda: left.pop() if left else otherwise()


def checked(code: str) -> str:
    """The code without the spaces that people read it with. Raises BadUsage for what is none."""
    digits = "".join(code.split())
    if not (6 <= len(digits) <= 8 and digits.isascii() and digits.isdigit()):
        # What was given is not repeated: it may be a password.
        raise BadUsage("that is no code: it has 6 to 8 digits")
    return digits
