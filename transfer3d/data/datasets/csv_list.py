"""Lists of paths: `path,label[,split]` with or without that header, or SlowFast's `path label`.

A list is by itself (its videos are `train`, unless a third column says otherwise) or is one of `train.csv`,
`val.csv`, `test.csv` in a folder. Paths are relative to the list. Labels are class names, or numbers from 0.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from transfer3d.data.datasets.listing import Entry, Finder, Listing, Request, bad_line, lines
from transfer3d.data.folder import SPLIT_NAMES, existing
from transfer3d.errors import DataError

SLOWFAST = re.compile(r"(.+\.\w+)\s+(\S+)")
HEADER = ("path", "label", "split")
MOST_DIGITS = 6
"""Of a number that is a label; there are as many classes as the largest one says."""


class _Row(NamedTuple):
    list: Path
    line: int
    path: str
    label: str
    split: str


def applies(request: Request) -> bool:
    """Whether it is a list, or a folder of lists."""
    if request.root.is_file():
        return request.root.suffix.lower() in (".csv", ".txt")
    return bool(_lists(request))


def read(request: Request) -> Listing:
    """Reads the lists."""
    rows = [row for path in _lists(request) for row in _rows(path)]
    if not rows:
        raise DataError(f"{request.root}: an empty list. Give lines of 'path,label'.")
    classes = _classes(rows)
    number_of = {name: label for label, name in enumerate(classes)}
    folder = request.root.parent if request.root.is_file() else request.root
    entries, seen = [], {}
    for row in rows:
        if (before := seen.setdefault(row.path, row)) is not row:
            raise bad_line(
                row.list, row.line, f"{row.path} is there already, in line {before.line} of {before.list}"
            )
        label = number_of.get(row.label)
        if label is None:
            raise bad_line(row.list, row.line, f"class '{row.label}' has no videos in train")
        place = existing(row.list.parent / row.path) or existing(folder / row.path)
        entries.append(Entry(row.path, place, row.split, label, row.path))
    if request.root.is_file():
        return Listing(tuple(classes), tuple(entries))
    return Finder(folder).listing(classes, entries)


def _lists(request: Request) -> list[Path]:
    if request.root.is_file():
        return [request.root]
    folder = request.annotations or request.root
    return sorted(path for path in folder.glob("*.csv") if path.stem.casefold() in SPLIT_NAMES)


def _rows(path: Path) -> list[_Row]:
    default = SPLIT_NAMES.get(path.stem.casefold(), "train")
    numbered = list(lines(path))
    matches = [SLOWFAST.fullmatch(text) for _, text in numbered]
    if all(match is not None and _is_number(match[2]) for match in matches):
        # From the right: paths hold spaces.
        return [_Row(path, n, m[1], m[2], default) for (n, _), m in zip(numbered, matches, strict=True) if m]
    rows = []
    for number, text in numbered:
        try:
            cells = [cell.strip() for cell in next(csv.reader([text]))]
        except csv.Error as error:
            raise bad_line(path, number, str(error)) from None
        if number == numbered[0][0] and cells == list(HEADER[: len(cells)]):
            continue
        if len(cells) not in (2, 3) or not cells[0] or not cells[1]:
            raise bad_line(path, number, f"'{text}' is not 'path,label'")
        split = SPLIT_NAMES.get(cells[2].lower()) if len(cells) == 3 else default
        if split is None:
            raise bad_line(path, number, f"'{cells[2]}' is not one of train, val, test")
        rows.append(_Row(path, number, cells[0], cells[1], split))
    return rows


def _classes(rows: list[_Row]) -> list[str]:
    """Returns the classes: as many as the numbers reach, or the names of the training videos, sorted."""
    if not _is_number(rows[0].label):
        return sorted({row.label for row in rows if row.split == "train"} or {row.label for row in rows})
    for row in rows:
        if not row.label.isdecimal():
            raise DataError(
                f"{row.list}, line {row.line}: {row.path} has label '{row.label}', the first has a number. "
                "Give numbers from 0, or names, to all.",
            )
        if len(row.label) > MOST_DIGITS:
            raise DataError(
                f"{row.list}, line {row.line}: {row.path} has label '{row.label}'. Give numbers below 10 ** "
                f"{MOST_DIGITS}, or names.",
            )
    return [str(number) for number in range(max(int(row.label) for row in rows) + 1)]


def _is_number(label: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", label) is not None
