"""Lists of paths: `path,label[,split]` with or without a header, or SlowFast's `path label`.

A header may use other common names (`video_path,class`), in any order, with other columns between them. Where
lines have no commas, tabs or semicolons separate the cells, as in the CSV of some spreadsheets. A list is
either a single file (its videos are `train`, unless a third column has the split) or one of `train.csv`,
`val.csv`, `test.csv` in a folder. Paths are relative to the list; they may lack their suffixes, if each fits
one file only. Labels are class names, or numbers from 0.
Several labels are separated by `;` or `|` ("run;jump"), if any of them also occurs in another line; numbers
also by commas ("3,17").
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from transfer3d.data.datasets.listing import Entry, Finder, Listing, Request, bad_line, lines, video_stem
from transfer3d.data.folder import SPLIT_NAMES, existing, is_video, warn_of_similar
from transfer3d.errors import DataError

SLOWFAST = re.compile(r"(.+\.\w+)\s+(\S+)")
HEADER = ("path", "label", "split")
COLUMNS = {
    "path": (
        "path", "video", "videos", "video_path", "videopath", "file", "files", "filename", "file_name",
        "filepath", "file_path", "clip", "clip_path", "video_name", "video_id", "name",
    ),
    "label": (
        "label", "labels", "class", "classes", "class_name", "classname", "class_id", "category", "action",
        "target", "label_id", "label_name", "actions", "label_ids",
    ),
    "split": ("split", "subset", "set", "partition", "usage"),
}  # fmt: skip
"""Possible names of the columns in a header, in lower case, the most common first."""
MAX_DIGITS = 6
"""Maximum digits of a numeric label, since the largest label determines the number of classes."""
BETWEEN = re.compile("[;|]")
NUMBERS = re.compile(r"\d+(\s*,\s*\d+)+")


class _Row(NamedTuple):
    list: Path
    line: int
    path: str
    labels: tuple[str, ...]
    split: str


class _Columns(NamedTuple):
    """Indices of the columns; `is_default` if there is no header."""

    path: int
    label: int
    split: int | None
    is_default: bool = True


def applies(request: Request) -> bool:
    """Whether it is a list, or a folder of lists."""
    if request.root.is_file():
        return request.root.suffix.lower() in (".csv", ".txt")
    return bool(_lists(request))


def read(request: Request) -> Listing:
    """Reads the lists."""
    rows = _separated([row for path in _lists(request) for row in _rows(path)])
    if not rows:
        raise DataError(f"{request.root}: an empty list. Give lines of 'path,label'.")
    classes = _classes(rows)
    number_of = {name: label for label, name in enumerate(classes)}
    folder = request.root.parent if request.root.is_file() else request.root
    is_named = not request.flow_files and any(is_video(PurePosixPath(row.path)) for row in rows)
    finder = Finder(request) if request.root.is_dir() or not is_named else None
    entries, seen = [], {}
    for row in rows:
        for name in row.labels:
            if name not in number_of:
                raise bad_line(row.list, row.line, f"class '{name}' has no videos in train")
        labels = [number_of[name] for name in row.labels]
        place = None if request.flow_files else _place((row.list.parent, folder), row.path)
        if place is None and finder and request.flow_files:
            video = PurePosixPath(row.path)
            place = finder.find(video_stem(video), folder=video.parent.name or None)
        elif place is None and finder and not is_named:
            places = finder.without_suffix(row.path)
            if len(places) > 1:
                raise bad_line(row.list, row.line, f"{row.path} may be {places[0]} or {places[1]}")
            place = next(iter(places), None)
        if (before := seen.setdefault(os.path.abspath(place) if place else row.path, row)) is not row:
            raise bad_line(
                row.list, row.line, f"{row.path} is listed before, in line {before.line} of {before.list}"
            )
        if place is not None and not (place.is_file() or place.is_dir()):
            raise bad_line(row.list, row.line, f"{row.path} is a device or a pipe")
        several = tuple(labels) if len(labels) > 1 else ()
        entries.append(Entry(row.path, place, row.split, labels[0], row.path, labels=several))
    if request.root.is_file() or finder is None:
        return Listing(tuple(classes), tuple(entries))
    return finder.listing(classes, entries)


def _place(folders: Sequence[Path], name: str) -> Path | None:
    """Returns a listed file; separators may be those of Windows."""
    names = dict.fromkeys((name, name.replace("\\", "/")))
    return next(filter(None, (existing(folder / one) for one in names for folder in folders)), None)


def _lists(request: Request) -> list[Path]:
    if request.root.is_file():
        return [request.root]
    folder = request.annotations or request.root
    return sorted(p for p in folder.glob("*.csv") if p.stem.casefold() in SPLIT_NAMES and p.is_file())


def _rows(path: Path) -> list[_Row]:
    default = SPLIT_NAMES.get(path.stem.casefold(), "train")
    numbered = list(lines(path, " "))  # a tab may separate an empty cell
    matches = [SLOWFAST.fullmatch(text.strip()) for _, text in numbered]
    if all(match is not None and all(map(_is_number, _labels(match[2]))) for match in matches):
        # Split from the right, since paths may contain spaces.
        pairs = zip(numbered, matches, strict=True)
        return [_Row(path, n, m[1], (m[2],), default) for (n, _), m in pairs if m]
    delimiter = _delimiter([text for _, text in numbered])
    table = [(number, _cells(path, number, text, delimiter)) for number, text in numbered]
    columns = _Columns(0, 1, 2)
    if table and _is_header(path, table[0][1], [cells for _, cells in table[1:]]):
        columns = _columns(path, *table.pop(0))
    rows = []
    for number, cells in table:
        video, label = (cells[place] if place < len(cells) else "" for place in columns[:2])
        if not video or not label or (columns.is_default and len(cells) > len(HEADER)):
            raise bad_line(path, number, f"'{','.join(cells)}' is not 'path,label'")
        split = default
        if columns.split is not None and (columns.split < len(cells) or not columns.is_default):
            given = cells[columns.split] if columns.split < len(cells) else ""
            split = SPLIT_NAMES.get(given.lower())
            if split is None:
                raise bad_line(path, number, f"'{given}' is not one of train, val, test")
        rows.append(_Row(path, number, video, (label,), split))
    return rows


def _labels(text: str) -> tuple[str, ...]:
    """Returns the labels of a cell; a comma only separates numbers, since names may contain commas."""
    between = "," if NUMBERS.fullmatch(text) else BETWEEN
    return tuple(label.strip() for label in re.split(between, text))


def _separated(rows: list[_Row]) -> list[_Row]:
    """Returns the rows with their labels separated, if a part of a label occurs in another row.

    Otherwise `;` and `|` belong to the names, as in Something-Something's "Turning something; upside down".

    Raises:
        DataError: a label is empty or duplicate.
    """
    parts_of = {text: _labels(text) for row in rows for text in row.labels}
    cells = Counter(part for parts in parts_of.values() for part in set(parts))
    several = [parts for parts in parts_of.values() if len(parts) > 1]
    if not any(all(map(_is_number, parts)) or any(cells[part] > 1 for part in parts) for parts in several):
        return rows
    for row in rows:
        parts = parts_of[row.labels[0]]
        if not all(parts) or len(set(parts)) < len(parts):
            raise bad_line(row.list, row.line, f"'{row.labels[0]}': a label is empty or listed twice")
    return [row._replace(labels=parts_of[row.labels[0]]) for row in rows]


def _delimiter(texts: Sequence[str]) -> str:
    """Returns the delimiter: a comma, or if a line has none, a tab or semicolon that occurs in every line."""
    others = (mark for mark in "\t;" if texts and all(mark in text for text in texts))
    return "," if all("," in text for text in texts) else next(others, ",")


def _cells(path: Path, number: int, text: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
    except csv.Error as error:
        raise bad_line(path, number, str(error)) from None


def _is_header(path: Path, first: list[str], others: Sequence[list[str]]) -> bool:
    """Whether the first line names the columns instead of a video."""
    if _is_video(first):
        return False
    known = {column for column, names in COLUMNS.items() for cell in first if cell.casefold() in names}
    if {"path", "label"} <= known:
        return True  # even beside a folder called "videos"
    if first[0] and existing(path.parent / first[0]):
        return False
    return bool(known) or (bool(others) and all(map(_is_video, others)))


def _is_video(cells: list[str]) -> bool:
    return is_video(Path(cells[0]))


def _columns(path: Path, number: int, header: list[str]) -> _Columns:
    """Returns the columns of path, label and split by their names.

    Of two columns, the unknown one is what the other is not; two unknown columns are path and label.
    """
    places = {
        column: [place for place, name in enumerate(header) if name.casefold() in names]
        for column, names in COLUMNS.items()
    }
    named = [place for place, name in enumerate(header) if name]  # the index of pandas has no name
    if len(named) == 2 and not places["split"]:
        if not places["path"]:
            places["path"] = [place for place in named if place not in places["label"][:1]]
        if not places["label"]:
            places["label"] = [place for place in named if place not in places["path"][:1]]
    if not places["path"] or not places["label"]:
        raise bad_line(path, number, f"the header '{','.join(header)}' has no columns called path and label")
    split = places["split"][0] if places["split"] else None
    return _Columns(places["path"][0], places["label"][0], split, is_default=False)


def _classes(rows: list[_Row]) -> list[str]:
    """Returns the classes: numbers up to the largest label, or the sorted names of the training videos."""
    labels = [(row, label) for row in rows for label in row.labels]
    if not _is_number(labels[0][1]):
        trained = {label for row, label in labels if row.split == "train"}
        classes = sorted(trained or {name for _, name in labels})
        warn_of_similar(str(rows[0].list), classes)
        return classes
    for row, label in labels:
        if not label.isdecimal():
            raise DataError(
                f"{row.list}, line {row.line}: {row.path} has label '{label}', the first has a number. "
                "Give numbers from 0, or names, to all."
            )
        if len(label) > MAX_DIGITS:
            raise DataError(
                f"{row.list}, line {row.line}: {row.path} has label '{label}'. Give numbers below 10 ** "
                f"{MAX_DIGITS}, or names."
            )
    return [str(number) for number in range(max(int(label) for _, label in labels) + 1)]


def _is_number(label: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", label) is not None
