"""HMDB51: `<class>/<name>.avi` with `testTrainMulti_7030_splits/<class>_test_split{1,2,3}.txt`.

A line is `name.avi 0|1|2`: unused, train, test.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from transfer3d.data.datasets.listing import Entry, Finder, Listing, Request, bad_line, lines
from transfer3d.errors import DataError, UsageError

SPLITS = {"0": None, "1": "train", "2": "test"}
FOLDS = (1, 2, 3)


def applies(request: Request) -> bool:
    """Whether the lists of HMDB51 exist."""
    return bool(request.notes("*_test_split?.txt"))


def read(request: Request) -> Listing:
    """Reads one of the three folds, as splits train and test; its unused videos are in neither."""
    if request.fold not in FOLDS:
        raise UsageError(f"--fold {request.fold}: HMDB51 has 1, 2 and 3.")
    ending = f"_test_split{request.fold}.txt"
    lists = request.notes(f"*{ending}")
    if not lists:
        raise DataError(f"{request.root}: no *{ending}. Name their folder with --annotations.")
    classes = sorted(path.name.removesuffix(ending) for path in lists)
    finder = Finder(request)
    entries, unused = [], set()
    for path in lists:
        label = classes.index(path.name.removesuffix(ending))
        for number, line in lines(path):
            name, _, use = line.rpartition(" ")
            if not name or use not in SPLITS:
                raise bad_line(path, number, f"'{line}' is not '<name>.avi 0|1|2'")
            name = name.strip()
            place = finder.find(PurePosixPath(name).stem, folder=classes[label])
            split = SPLITS[use]
            if split is None:
                unused.add(place)
            else:
                entries.append(Entry(f"{classes[label]}/{name}", place, split, label, _source(name)))
    listing = finder.listing(classes, entries)
    return Listing(listing.classes, listing.entries, tuple(p for p in listing.extra if p not in unused))


def _source(name: str) -> str:
    """Returns the original video: the name without the class and the suffixes of its clips."""
    parts = PurePosixPath(name).stem.split("_")
    return "_".join(parts[:-7]) or name
