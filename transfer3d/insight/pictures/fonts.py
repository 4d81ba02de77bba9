"""A font for a name in any script: matplotlib's own, else the one of this machine that has its characters."""

from __future__ import annotations

import unicodedata
import warnings
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

OWN = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
"""Has Latin, Greek, Cyrillic, Arabic, Hebrew and others, but no Chinese, Japanese or Korean."""
PLACEHOLDERS = "LastResort"
"""Matplotlib's file of boxes for all characters."""
UNDRAWN = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Unicode categories of characters without a shape: control, format, spaces."""
SELECTORS = range(0xFE00, 0xFE10)
"""Variation selectors: they choose a shape of the character before them."""


@cache
def font_for(text: str) -> str:
    """Returns the path of a font that has the text's characters, or as many as any font here.

    Warns if no font has all: those that are missing are drawn as boxes.
    """
    if not _missing(OWN, text):
        return OWN
    others = [font for font in fontManager.ttflist if not Path(font.fname).name.startswith(PLACEHOLDERS)]
    others.sort(key=lambda font: (font.style != "normal", font.weight != 400))
    best = min([OWN, *(font.fname for font in others)], key=lambda file: len(_missing(file, text)))
    if _missing(best, text):
        warnings.warn(
            "no font here has all characters of the names, so pictures show boxes instead. Install a font "
            "for their script, such as Noto Sans CJK for Chinese, Japanese and Korean.",
            stacklevel=2,
        )
    return best


def _missing(file: str, text: str) -> set[str]:
    """Returns the characters of a text for which a font has no shape."""
    drawn = {c for c in text if unicodedata.category(c) not in UNDRAWN and ord(c) not in SELECTORS}
    return {character for character in drawn if ord(character) not in _characters(file)}


@cache
def _characters(file: str) -> frozenset[int]:
    """Returns the characters that a font has; none if it cannot be read."""
    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
