"""What stands on the page can be told from its ground, light, dark and on paper, by the measure of WCAG 2.1."""

from __future__ import annotations

import re

import pytest

from spa_server.report.style import CSS

TEXTS = ("ink", "quiet", "alert")
MARKS = ("granted", "refused", "c1", "c2", "note")
THEMES = [dict(re.findall(r"--(\w+): #(\w+);", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)]


def luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_there_are_three_themes_of_the_same_colours() -> None:
    assert len(THEMES) == 3
    assert len({frozenset(theme) for theme in THEMES[:2]}) == 1
    assert set(re.findall(r"var\(--(\w+)\)", CSS)) <= set(THEMES[0])


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark", "paper"])
@pytest.mark.parametrize("ground", ["ground", "raised"])
def test_texts_and_marks_stand_out(theme: dict[str, str], ground: str) -> None:
    assert {
        name: contrast(theme[name], theme[ground]) for name in TEXTS if contrast(theme[name], theme[ground]) < 4.5
    } == {}
    assert {
        name: contrast(theme[name], theme[ground]) for name in MARKS if contrast(theme[name], theme[ground]) < 3
    } == {}


def test_what_stands_side_by_side_differs_in_lightness_too() -> None:
    for theme in THEMES:
        assert contrast(theme["granted"], theme["refused"]) > 1.3
