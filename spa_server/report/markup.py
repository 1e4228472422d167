"""HTML and SVG from values: whatever was not made here is escaped, so that no text from outside can become markup.

Names and texts in a trail come from devices and operators. A text becomes part of a page only through `tag`, which
escapes all that is not `Html` already. It must not know what a page says.
"""

from __future__ import annotations

import html

from spa_server.tell.printable import printable

_VOID = frozenset({"meta", "br", "col"})
LONGEST_TEXT = 400
"""Characters of one text: a page stays readable whatever a record holds."""


class Html(str):
    """Markup, made by `tag` or `join`."""

    __slots__ = ()


def join(*parts: object) -> Html:
    """The parts one after another: markup as it is, all else as text, what is too long of it cut."""
    return Html("".join(part if isinstance(part, Html) else _escaped(_cut(str(part))) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. An attribute's name may end in `_` (`class_`), and `_` within it is `-`; None leaves it out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
