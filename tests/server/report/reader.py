"""A page as a strict reader sees it: every element closed in its order, with its attributes and its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "col"}


@dataclass
class Element:
    """An element and what is in it."""

    name: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """Every element of that name in it, in the page's order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child] if child.name == name else []
                found += child.all(name)
        return found

    def text(self) -> str:
        """All text in it."""
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)

    def everything(self) -> list[Element]:
        """Every element in it."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child, *child.everything()]
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> where <{self.open[-1].name}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def read(page: str) -> Element:
    """The page's html element. Raises AssertionError where it is not well-formed."""
    assert page.startswith("<!doctype html>\n")
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert [each.name for each in reader.open] == [""], "an element was not closed"
    elements = [child for child in reader.open[0].children if isinstance(child, Element)]
    assert [each.name for each in elements] == ["html"]
    return elements[0]
