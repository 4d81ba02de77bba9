"""ActivityNet: one JSON file of timed segments; videos are called `v_<id>` or `<id>`.

Each segment becomes a video of its class; the test videos, which have no segments, stay whole and unlabelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.data.datasets.listing import Cut, Entry, Finder, Listing, Request
from transfer3d.data.folder import SPLIT_NAMES
from transfer3d.errors import DataError
from transfer3d.files import parse_json


def applies(request: Request) -> bool:
    """Whether there is a JSON file with a `database` of subsets."""
    return any('"database"' in _start(path) or '"subset"' in _start(path) for path in request.notes("*.json"))


def read(request: Request) -> Listing:
    """Reads the segments, as splits train, val and test."""
    path = next(p for p in request.notes("*.json") if '"database"' in _start(p) or '"subset"' in _start(p))
    try:
        database: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))["database"]
        segments = [
            (name, SPLIT_NAMES[video["subset"]], str(note["label"]), float(start), float(end))
            for name, video in database.items()
            for note in video["annotations"]
            for start, end in (note["segment"],)
        ]
        whole = [(name, SPLIT_NAMES[v["subset"]]) for name, v in database.items() if not v["annotations"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not ActivityNet's JSON ({error!r}). Copy it again.") from None
    classes = sorted({label for _, _, label, _, _ in segments})
    finder = Finder(request)
    entries = []
    for name, split, label, start, end in segments:
        if not 0 <= start < end:
            raise DataError(f"{path}: {name}: segment {start} to {end} s is empty. Mend the list.")
        place, cut = finder.find(f"v_{name}", name), Cut(start, end - start)
        entries.append(Entry(f"{name} {start:g}-{end:g} s", place, split, classes.index(label), name, cut))
    entries += [Entry(name, finder.find(f"v_{name}", name), split, None, name) for name, split in whole]
    return finder.listing(classes, entries)


def _start(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(100_000)
