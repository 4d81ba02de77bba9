"""Something-Something v1: a folder of JPEG frames for each video, `<id>/00001.jpg`, and CSV lists.

`something-something-v1-{labels,train,validation,test}.csv`: one class per line; `id;class`; test has ids.
"""

from __future__ import annotations

from pathlib import Path

from transfer3d.data.datasets.listing import Entry, Listing, Request, bad_line, lines
from transfer3d.data.folder import SPLIT_NAMES

PREFIX = "something-something-v1"
PARTS = ("train", "validation", "test")


def applies(request: Request) -> bool:
    """Whether its list of classes exists."""
    return bool(request.notes(f"{PREFIX}-labels.csv"))


def read(request: Request) -> Listing:
    """Reads the existing lists, as splits train, val and test."""
    classes = [text for _, text in lines(request.note(f"{PREFIX}-labels.csv"))]
    number_of = {name: label for label, name in enumerate(classes)}
    folders = _frame_folders(request.root)
    entries = []
    for part in PARTS:
        for path in request.notes(f"{PREFIX}-{part}.csv")[:1]:
            for number, line in lines(path):
                name, _, text = line.partition(";")
                if text and text not in number_of:
                    raise bad_line(path, number, f"'{text}' is not a class of {PREFIX}-labels.csv")
                label = number_of[text] if text else None
                entries.append(Entry(name, folders.get(name), SPLIT_NAMES[part], label, name))
    named = {entry.name for entry in entries}
    extra = tuple(path for name, path in sorted(folders.items()) if name not in named)
    return Listing(tuple(classes), tuple(entries), extra)


def _frame_folders(root: Path) -> dict[str, Path]:
    """Returns the folders of frames by name: those named by a number, at most one level down."""
    below = [path for path in root.iterdir() if path.is_dir()]
    inner = [path for folder in below if not folder.name.isdecimal() for path in folder.iterdir()]
    return {path.name: path for path in (*below, *inner) if path.name.isdecimal() and path.is_dir()}
