"""Sports-1M: `{train,test}_partition.txt` with `<address> <label>,<label>...`, `labels.txt`, videos by id.

A video may have several labels: the first is its class, all are kept. As in P3D (section 4) a training video
yields five random cuts of five seconds, seeded by its name.
"""

from __future__ import annotations

import hashlib

from transfer3d.data.datasets.listing import Cut, Entry, Finder, Listing, Request, bad_line, lines

CUTS = 5
SECONDS = 5.0


def applies(request: Request) -> bool:
    """Whether its list of training videos exists."""
    return bool(request.notes("train_partition.txt"))


def read(request: Request) -> Listing:
    """Reads both lists, as splits train (cuts) and test (whole videos)."""
    classes = [text for _, text in lines(request.note("labels.txt"))]
    finder = Finder(request)
    entries = []
    for split in ("train", "test"):
        for path in request.notes(f"{split}_partition.txt")[:1]:
            for number, line in lines(path):
                address, _, text = line.rpartition(" ")
                name = address.rpartition("v=")[2].rpartition("/")[2]
                try:
                    labels = tuple(int(label) for label in text.split(","))
                except ValueError:
                    labels = ()
                if not name or not labels or min(labels) < 0 or max(labels) >= len(classes):
                    why = f"'{line}' is not '<address> <label>,...' with labels of {len(classes)} classes"
                    raise bad_line(path, number, why)
                place = finder.find(name)
                for index, cut in enumerate(_cuts(name) if split == "train" else [None]):
                    called = name if cut is None else f"{name} cut {index}"
                    entries.append(Entry(called, place, split, labels[0], name, cut, labels))
    return finder.listing(classes, entries)


def _cuts(name: str) -> list[Cut]:
    digests = (hashlib.sha256(f"{name} {index}".encode()).digest() for index in range(CUTS))
    return [Cut(int.from_bytes(d[:8], "big") / 2**64, SECONDS, relative=True) for d in digests]
