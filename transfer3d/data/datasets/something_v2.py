"""Something-Something v2: `<id>.webm` and JSON lists.

`something-something-v2-{labels,train,validation,test}.json`, or `labels/{labels,train,validation,test}.json`
with `test-answers.csv`. A label is the `template` without its brackets; numbers in labels.json are strings.
"""

from __future__ import annotations

from pathlib import Path

from transfer3d.data.datasets.listing import Entry, Finder, Listing, Request, bad_line, json_of, lines
from transfer3d.data.folder import SPLIT_NAMES
from transfer3d.errors import DataError

PARTS = ("train", "validation", "test")


def applies(request: Request) -> bool:
    """Whether there are JSON lists of labels and of training videos."""
    return _note(request, "labels") is not None and _note(request, "train") is not None


def read(request: Request) -> Listing:
    """Reads the existing lists, as splits train, val and test; test has labels if there are answers."""
    labels_file = _note(request, "labels")
    assert labels_file is not None
    classes = _classes(labels_file)
    number_of = {name: label for label, name in enumerate(classes)}
    answers = _answers(request, number_of)
    finder = Finder(request)
    entries = []
    for part in PARTS:
        path = _note(request, part)
        if path is None:
            continue
        rows = json_of(path)
        if not isinstance(rows, list):
            raise DataError(f"{path}: not a list of videos. Copy it again.")
        for number, row in enumerate(rows, start=1):
            try:
                name, template = str(row["id"]), row.get("template")
                label = answers.get(name) if template is None else number_of[_without_brackets(template)]
            except (KeyError, TypeError, AttributeError):
                raise bad_line(path, number, f"entry {row}: no id, or no class of labels.json") from None
            entries.append(Entry(name, finder.find(name), SPLIT_NAMES[part], label, name))
    return finder.listing(classes, entries)


def _note(request: Request, part: str) -> Path | None:
    notes = request.notes(f"something-something-v2-{part}.json") or request.notes(f"{part}.json")
    return notes[0] if notes else None


def _classes(path: Path) -> list[str]:
    numbers = json_of(path)
    if not isinstance(numbers, dict) or sorted(map(str, numbers.values())) != sorted(
        map(str, range(len(numbers)))
    ):
        raise DataError(f"{path}: not a table from class names to 0, 1, 2, ... Copy the list again.")
    return sorted(numbers, key=lambda name: int(numbers[name]))


def _answers(request: Request, number_of: dict[str, int]) -> dict[str, int]:
    answers = {}
    for path in request.notes("*test-answers.csv")[:1]:
        for number, line in lines(path):
            name, _, text = line.partition(";")
            if text not in number_of:
                raise bad_line(path, number, f"'{text}' is not a class of labels.json")
            answers[name] = number_of[text]
    return answers


def _without_brackets(template: str) -> str:
    return template.replace("[", "").replace("]", "")
