"""Kinetics 400, 600, 700: the official CSV files, and videos `<id>_<start>_<end>.mp4` in any folders.

The header is `label,youtube_id,time_start,time_end,split[,is_cc]`; test lists may have no label. Videos are
found by file name, so the names of class folders do not matter. A file may also be named by its id alone.
Classes are sorted.

Mini-Kinetics (Xie et al., arXiv:1712.04851) uses the same files with its authors' two lists beside the CSV
files, `train_ytid_list.txt` and `val_ytid_list.txt`: one id per line, and only these videos are used.
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

COLUMNS = {"youtube_id", "time_start", "time_end"}
Row = dict[str, str]


def applies(request: Request) -> bool:
    """Whether there is a CSV file with the official header."""
    return bool(_lists(request))


def read(request: Request) -> Listing:
    """Reads all existing official lists, as splits train, val and test."""
    rows = [(path, number, row) for path in _lists(request) for number, row in rows_of(path)]
    if subsets := _subsets(request):
        rows = [(path, number, row) for path, number, row in rows if row["youtube_id"] in subsets]
    labels = {row.get("label") or "" for _, _, row in rows} - {""}
    classes = sorted(labels)
    number_of = {name: label for label, name in enumerate(classes)}
    finder = Finder(request)
    entries = {}
    for path, number, row in rows:
        split = SPLIT_NAMES.get((row.get("split") or "").strip().lower()) or _split_of(path)
        name, video = row["youtube_id"], _name(path, number, row)
        split = subsets.get(name, split)
        if split is None:
            raise bad_line(path, number, f"'{row.get('split')}' is not one of train, validate, test")
        label = number_of.get(row.get("label") or "")
        place = finder.find(video, name, folder=row.get("label"))
        entries.setdefault((split, video), Entry(video, place, split, label, name))
    for name in subsets.keys() - {row["youtube_id"] for _, _, row in rows}:  # no official list has them
        entries[subsets[name], name] = Entry(name, None, subsets[name], None, name)
    return finder.listing(classes, entries.values())


def _subsets(request: Request) -> dict[str, str]:
    """Returns the split of every id in Mini-Kinetics' lists; empty without lists.

    Raises:
        DataError: a list's name has no split, or an id is in two lists.
    """
    split_of: dict[str, str] = {}
    for path in request.notes("*ytid_list.txt"):
        split = _split_of(path)
        if split is None:
            raise bad_line(path, 1, "a list of ids is called after its split, as in train_ytid_list.txt")
        for number, name in lines(path):
            if split_of.setdefault(name, split) != split:
                raise bad_line(path, number, f"{name} is in {split_of[name]} too")
    return split_of


def _lists(request: Request) -> list[Path]:
    return [path for path in request.notes("*.csv") if set(header_of(path)) >= COLUMNS]


def _name(path: Path, number: int, row: Row) -> str:
    if not row["youtube_id"]:
        raise bad_line(path, number, "a video without an id")
    try:
        start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        raise bad_line(path, number, "time_start and time_end are not numbers") from None
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _split_of(path: Path) -> str | None:
    """Returns the split in the name of a list."""
    words = path.stem.lower().replace("-", "_").split("_")
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
