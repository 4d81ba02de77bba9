"""Charades: `Charades_v1_{train,test}.csv` with the actions of each video, and `Charades_v1_classes.txt`.

A video has every class in its column `actions` ("c092 11.90 21.20;c147 0.00 12.60"); the times are not used.
A video without actions becomes unlabelled: the dataset's own evaluation excludes it. Lists with other names
and splits are supported: `*_val.csv`, and any classes in a `*classes.txt`.
"""

from __future__ import annotations

from pathlib import Path

from transfer3d.data.datasets.listing import (
    Entry,
    Finder,
    Listing,
    Request,
    bad_line,
    header_of,
    lines,
    rows_of,
)
from transfer3d.data.folder import SPLIT_NAMES
from transfer3d.errors import DataError

COLUMNS = {"id", "actions"}
LISTS = "*_*.csv"


def applies(request: Request) -> bool:
    """Whether there is a list with the columns of Charades."""
    return request.root.is_dir() and bool(_lists(request))


def read(request: Request) -> Listing:
    """Reads the lists, as splits train, val and test."""
    coded = [text.partition(" ") for _, text in lines(request.note("*classes.txt"))]
    classes = {code: name.strip() or code for code, _, name in coded}
    number_of = {code: number for number, code in enumerate(classes)}
    finder = Finder(request)
    entries = []
    for path, split in _lists(request):
        for number, row in rows_of(path, strict=True):
            if not row["id"]:
                raise bad_line(path, number, "a video without an id")
            codes = [action.split()[0] for action in row["actions"].split(";") if action.strip()]
            if unknown := [code for code in codes if code not in number_of]:
                raise bad_line(path, number, f"action '{unknown[0]}' is not among the classes")
            labels = tuple(dict.fromkeys(number_of[code] for code in codes))
            several = labels if len(labels) > 1 else ()
            part, label = (split, labels[0]) if labels else ("unlabelled", None)
            entries.append(Entry(row["id"], finder.find(row["id"]), part, label, row["id"], labels=several))
    if not entries:
        raise DataError(f"{request.root}: its lists are empty. Copy them again.")
    return finder.listing(list(classes.values()), entries)


def _lists(request: Request) -> list[tuple[Path, str]]:
    """Returns the lists with their splits."""
    named = [
        (path, SPLIT_NAMES.get(path.stem.rpartition("_")[2].casefold())) for path in request.notes(LISTS)
    ]
    return [(path, split) for path, split in named if split and set(header_of(path)) >= COLUMNS]
