"""A table as lines of text, exactly as wide as there is room: what is too long for its column ends in an ellipsis.

rich's own tables do not say how many lines they take. It must not know what stands in a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

GAP = 2
LEAST = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, from what width of the terminal on the column is there, and whether it may be cut."""

    head: str
    from_width: int = 0
    right: bool = False
    cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[Text]:
    """The headings, and a line for each row."""
    shown = [number for number, column in enumerate(columns) if width >= column.from_width]
    heads = [Text(column.head, style="bold") for column in columns]
    widths = _widths([columns[number] for number in shown], [[row[n] for n in shown] for row in (heads, *rows)], width)
    return [_line([row[n] for n in shown], [columns[n] for n in shown], widths, width) for row in (heads, *rows)]


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """As wide as the widest cell; where that is too much, the widest of those that may be cut give way."""
    widths = [max(row[number].cell_len for row in rows) for number in range(len(columns))]
    while sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max((number for number, column in enumerate(columns) if column.cut), key=widths.__getitem__)
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return widths


def _line(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], width: int) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, (cell, column, room) in enumerate(zip(cells, columns, widths, strict=True)):
        cut = cell.copy()
        cut.truncate(room, overflow="ellipsis")
        if number:
            line.append(" " * GAP)
        pad = " " * (room - cut.cell_len)
        line.append(pad if column.right else "").append_text(cut)
        if not column.right and number < len(columns) - 1:
            line.append(pad)
    line.truncate(width, overflow="ellipsis")
    return line
