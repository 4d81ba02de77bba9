"""Descriptions of built-in recipes, from the first sentence of each file's comment. Does not import torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

FOR_BEGINNERS = {"default": "your own videos", "demo": "the built-in moving digits"}
"""Folders that are listed first, with their purpose; the others have the papers' experiments."""
SENTENCE = re.compile(r".*?\.(?=\s|$)")
PRINTED = re.compile(r"[;:] (\d[\d.]* %.*)\.$")


@dataclass(frozen=True)
class Description:
    """A one-sentence description of a recipe.

    Attributes:
        text: the experiment or purpose.
        printed: the paper's number with its data, as in `74.2 % top-1 on Mini-Kinetics`; empty if there is
            none.
    """

    text: str
    printed: str


def describe(path: Path) -> Description:
    """Reads the description of a recipe's file; empty if it does not begin with a comment."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    sentence = SENTENCE.match(comment)
    text = sentence[0] if sentence else comment
    printed = PRINTED.search(text)
    return Description(text, printed[1] if printed else "")


def beginners_first(names: list[str]) -> list[str]:
    """Returns the names sorted, those in folders of `FOR_BEGINNERS` first."""
    folders = list(FOR_BEGINNERS)

    def place(name: str) -> tuple[int, str]:
        folder = name.partition("/")[0]
        return (folders.index(folder) if folder in folders else len(folders), name)

    return sorted(names, key=place)
