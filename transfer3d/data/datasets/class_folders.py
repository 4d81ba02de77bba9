"""Class folders: `SRC/<class>/*`, or `SRC/{train,val,test}/<class>/*`, optionally with `SRC/unlabelled/*`."""

from __future__ import annotations

from transfer3d.data.datasets.listing import Entry, Listing, Request
from transfer3d.data.flow_files import U, is_component
from transfer3d.data.folder import (
    SPLIT_NAMES,
    class_folders,
    has_classes,
    labelled_folders,
    log_other_files,
    split_folders,
    videos_by_class,
)
from transfer3d.errors import DataError


def applies(request: Request) -> bool:
    """Whether there are class folders, with no videos beside them unless they are in a folder `train`."""
    if not request.root.is_dir():
        return False
    train = [p for n, p in class_folders(request.root).items() if SPLIT_NAMES.get(n.casefold()) == "train"]
    return has_classes(request.root) or any(map(class_folders, train))


def read(request: Request) -> Listing:
    """Reads the folders; the classes are those of train, sorted."""
    root, every = request.root, request.videos(request.root)
    bare = [path for path in every if path.parent == root or (path.parent == root / U and is_component(path))]
    if request.flow_files and bare:
        raise DataError(
            f"{root}: its flow ({bare[0].name}, ...) is not in class folders. Give the dataset's lists with "
            "--annotations, or a CSV list of path,label as SRC."
        )
    splits = split_folders(root) or {"train": root}
    pool = splits.pop("unlabelled", None)
    classes = list(labelled_folders(next(iter(splits.values())))) if splits else []
    entries = []
    for split, folder in splits.items():
        for name, path in videos_by_class(folder, classes, "train", request.videos):
            called = path.relative_to(root).as_posix()
            entries.append(Entry(called, path, split, classes.index(name), called))
    for path in [] if pool is None else request.videos(pool):
        called = path.relative_to(root).as_posix()
        entries.append(Entry(called, path, "unlabelled", None, called))
    if not request.flow_files:
        log_other_files(root)
    named = {entry.path for entry in entries}
    return Listing(tuple(classes), tuple(entries), tuple(p for p in every if p not in named))
