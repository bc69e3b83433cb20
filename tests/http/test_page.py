"""What can be said of the status page without a browser: its colours, and what it does not do."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product

import pytest

from redcouch.http.routes import FILES

PAGE = files("redcouch.http") / "page"
STYLE = (PAGE / "status.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): #([0-9a-f]+);", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
)
TEXTS = [
    *product(("ink", "dim"), ("card", "ground")),
    *product(("good", "bad", "accent"), ("card",)),
    *((name, f"{name}-soft") for name in ("good", "bad", "accent")),
    ("ink", "line"),
    ("card", "accent"),
]
LINES = [("one", "card"), ("two", "card")]


def luminance(colour: str) -> float:
    """Of C{rgb} or C{rrggbb}, as WCAG 2.2 defines relative luminance."""
    whole = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(whole[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 to 21, as WCAG 2.2 defines contrast ratio."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_itself() -> None:
    """Black on white is the most there is."""
    assert contrast("fff", "000000") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(palette: dict[str, str]) -> None:
    """Text can be read (WCAG AA: 4.5 to 1), and lines be seen (3 to 1), by day and by night."""
    for ink, ground in TEXTS:
        assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    for ink, ground in LINES:
        assert contrast(palette[ink], palette[ground]) >= 3, (ink, ground)


@pytest.mark.parametrize("name", sorted(name for name, _ in FILES.values()))
def test_nothing_becomes_markup(name: str) -> None:
    """No file makes markup or code out of text, has any inline, or names another site."""
    text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Func"):
        assert word not in text
    assert not re.search(r"https?:|\bon\w+=|\bstyle=|<script>|<style|@import|url\(", text)
