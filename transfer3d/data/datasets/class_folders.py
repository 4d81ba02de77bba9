"""Class folders: `SRC/<class>/*`, or `SRC/{train,val,test}/<class>/*` with `SRC/unlabelled/*` beside them."""

from __future__ import annotations

from transfer3d.data.datasets.listing import Entry, Listing, Request
from transfer3d.data.folder import class_folders, has_classes, videos_under
from transfer3d.errors import DataError

PARTS = ("train", "val", "test")


def applies(request: Request) -> bool:
    """Whether there are folders with videos in them, and no videos beside the folders."""
    return request.root.is_dir() and has_classes(request.root)


def read(request: Request) -> Listing:
    """Reads the folders; classes are those of train, sorted."""
    root = request.root
    parts = {name: root / name for name in PARTS if (root / name).is_dir()}
    folders = parts or {"train": root}
    classes = class_folders(folders.get("train") or next(iter(folders.values())))
    entries = []
    for split, folder in folders.items():
        for name in class_folders(folder):
            if name not in classes:
                raise DataError(f"{folder}: class {name} is not in train. Make the classes agree.")
            for path in videos_under(folder / name):
                called = path.relative_to(root).as_posix()
                entries.append(Entry(called, path, split, classes.index(name), called))
    if parts and (root / "unlabelled").is_dir():
        for path in videos_under(root / "unlabelled"):
            called = path.relative_to(root).as_posix()
            entries.append(Entry(called, path, "unlabelled", None, called))
    named = {entry.path for entry in entries}
    return Listing(tuple(classes), tuple(entries), tuple(p for p in videos_under(root) if p not in named))
