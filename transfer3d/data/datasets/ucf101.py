"""UCF101: `<Class>/v_<Class>_gNN_cNN.avi` with `ucfTrainTestlist/{classInd,trainlist0K,testlist0K}.txt`.

Labels are 1-based, testlist has none (the folder is the class), and the folder HandstandPushups contains
files named v_HandStandPushups. Videos of one group gNN were cut from one original.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from transfer3d.data.datasets.listing import Entry, Finder, Listing, Request, bad_line, lines
from transfer3d.errors import UsageError

FOLDS = (1, 2, 3)


def applies(request: Request) -> bool:
    """Whether the lists of UCF101 exist."""
    return bool(request.notes("classInd.txt") and request.notes("trainlist0?.txt"))


def read(request: Request) -> Listing:
    """Reads one of the three folds, as splits train and test."""
    if request.fold not in FOLDS:
        raise UsageError(f"--fold {request.fold}: UCF101 has 1, 2 and 3.")
    classes = _classes(request.note("classInd.txt"))
    finder = Finder(request, fold_case=True)
    return finder.listing(
        classes,
        [
            *_entries(request.note(f"trainlist0{request.fold}.txt"), "train", classes, finder),
            *_entries(request.note(f"testlist0{request.fold}.txt"), "test", classes, finder),
        ],
    )


def _classes(path: Path) -> list[str]:
    names = []
    for number, line in lines(path):
        index, _, name = line.partition(" ")
        if index != str(len(names) + 1) or not name:
            raise bad_line(path, number, f"'{line}' is not '{len(names) + 1} <class>'")
        names.append(name)
    return names


def _entries(path: Path, split: str, classes: list[str], finder: Finder) -> Iterator[Entry]:
    labels = {name.casefold(): label for label, name in enumerate(classes)}
    for number, line in lines(path):
        before, _, last = line.rpartition(" ")
        name = before if last.isdecimal() else line
        video = PurePosixPath(name)
        label = labels.get(video.parent.name.casefold())
        if label is None:
            raise bad_line(path, number, f"'{video.parent.name}' is not a class of classInd.txt")
        if name != line and last.lstrip("0") != str(label + 1):
            raise bad_line(path, number, f"{video.parent.name} is class {label + 1} in classInd.txt")
        source = video.stem.rpartition("_c")[0] or video.stem
        yield Entry(name, finder.find(video.stem), split, label, source)
