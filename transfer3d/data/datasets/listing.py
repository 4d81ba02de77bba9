"""The listing of a dataset: its videos, their files, and missing ones.

The lists themselves are read by the layouts.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from transfer3d.data.flow_files import flow_folders
from transfer3d.data.folder import composed, is_video, videos_under
from transfer3d.errors import DataError, UsageError, did_you_mean
from transfer3d.files import parse_json, read_regular
from transfer3d.text import shortened

MAX_BYTES = 1 << 30
"""Maximum size of a list."""
LONGEST_REASON = 600
LONGEST_HEADER = 10_000
"""Maximum length of the header of a CSV list."""


@dataclass(frozen=True)
class Cut:
    """A part of a video.

    Attributes:
        start: seconds; if `relative`, a share (0 to 1) of the possible starts.
        seconds: length; shorter at the video's end.
        relative: see `start`.
    """

    start: float
    seconds: float
    relative: bool = False


@dataclass(frozen=True)
class Entry:
    """One video that a dataset lists.

    Attributes:
        name: in the list.
        path: a file, or a folder of frames; None if it is missing.
        split: train, val, test or unlabelled.
        label: class, or None.
        source: the original video from which it was cut.
        cut: the part of the file; None = all.
        labels: all classes, if it may have several.
    """

    name: str
    path: Path | None
    split: str
    label: int | None
    source: str
    cut: Cut | None = None
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Listing:
    """The listing of a dataset.

    Attributes:
        classes: names, by label.
        entries: the listed videos, including missing ones.
        extra: files in the folder that are not listed.
    """

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    extra: tuple[Path, ...] = ()

    @property
    def missing(self) -> list[Entry]:
        """The listed videos whose file is missing."""
        return [entry for entry in self.entries if entry.path is None]

    @property
    def found(self) -> list[Entry]:
        """The listed videos whose file exists."""
        return [entry for entry in self.entries if entry.path is not None]

    def counts(self) -> dict[str, int]:
        """Returns the number of listed videos, by split."""
        return dict(Counter(entry.split for entry in self.entries))


@dataclass(frozen=True)
class Request:
    """The location of a dataset.

    Attributes:
        root: folder of the videos, or a list of them.
        annotations: folder of the lists; None = the root and the folders in it.
        fold: number of the official split.
        flow_files: whether the videos are folders of flow images (see `flow_files`), not video files.
    """

    root: Path
    annotations: Path | None = None
    fold: int = 1
    flow_files: bool = False

    def videos(self, folder: Path) -> list[Path]:
        """Returns all videos below a folder, sorted."""
        return flow_folders(folder) if self.flow_files else videos_under(folder)

    def notes(self, pattern: str) -> list[Path]:
        """Returns the annotation files that match a pattern, sorted."""
        if self.annotations is not None:
            return _files(self.annotations, pattern)
        return _files(self.root, pattern) or _files(self.root, f"*/{pattern}")

    def note(self, pattern: str) -> Path:
        """Returns the annotation file that matches a pattern.

        Raises:
            DataError: there is none.
        """
        if not (notes := self.notes(pattern)):
            where = self.annotations or self.root
            raise DataError(f"{where}: no {pattern}. Name its folder with --annotations.")
        return notes[0]


def _files(folder: Path, pattern: str) -> list[Path]:
    found = folder.glob(pattern) if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


class Finder:
    """Finds listed videos by their names without suffix, in any folder of the dataset.

    Args:
        request: the location of the dataset.
        fold_case: whether to ignore case (YouTube's ids are case-sensitive).
    """

    def __init__(self, request: Request, *, fold_case: bool = False) -> None:
        root = request.root.parent if request.root.is_file() else request.root
        self.files = request.videos(root)
        self._fold_case = fold_case
        self._by_stem: dict[str, list[Path]] = {}
        for path in self.files:
            self._by_stem.setdefault(self._name(video_stem(path)), []).append(path)

    def _name(self, stem: str) -> str:
        return composed(stem).casefold() if self._fold_case else composed(stem)

    def find(self, *stems: str, folder: str | None = None) -> Path | None:
        """Returns the first existing file; among files of the same name, the one in `folder` is preferred."""
        for stem in stems:
            places = self._by_stem.get(self._name(stem), [])
            if len(places) > 1 and folder is not None:
                places = [path for path in places if _plain(folder) in map(_plain, path.parts)] or places
            if places:
                return places[0]
        return None

    def without_suffix(self, name: str) -> list[Path]:
        """Returns the files whose path without suffix ends with a name, as in `run/1`."""
        files = self._by_stem.get(self._name(PurePath(name).name), [])
        return [
            path for path in files if f"/{composed(path.with_suffix('').as_posix())}".endswith(f"/{name}")
        ]

    def listing(self, classes: Sequence[str], entries: Iterable[Entry]) -> Listing:
        """Returns the listing, with the files that are not listed."""
        entries = tuple(entries)
        named = {entry.path for entry in entries}
        return Listing(tuple(classes), entries, tuple(path for path in self.files if path not in named))


def video_stem(path: PurePath) -> str:
    """Returns the name of a video without its file suffix; folders have none."""
    return path.stem if is_video(path) else path.name


def _plain(folder: str) -> str:
    return composed(folder).replace(" ", "_").casefold()


def text_of(path: Path) -> str:
    """Returns a list's text, in Unicode's composed form.

    Raises:
        DataError: it is not UTF-8, not a regular file, or too large.
    """
    try:
        content = read_regular(path, MAX_BYTES)
    except ValueError as error:
        raise DataError(f"{path}: {error}. Name the right list.") from None
    try:
        return composed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise bad_line(path, content.count(b"\n", 0, error.start) + 1, "it is not UTF-8") from None


def json_of(path: Path) -> Any:
    """Returns the value of a list in JSON.

    Raises:
        DataError: it is not such JSON, not a regular file, or too large.
    """
    try:
        return parse_json(text_of(path), untrusted=True)
    except DataError:  # a ValueError too
        raise
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}). Copy the list again.") from None


def lines(path: Path, strip: str | None = None) -> Iterator[tuple[int, str]]:
    """Yields number and text of each non-empty line, without the characters `strip` (spaces) at its ends."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield number, line.strip(strip)


def header_of(path: Path) -> list[str]:
    """Returns the names of the columns of a file that may be a CSV list; only its beginning is read."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        beginning = io.StringIO(file.read(LONGEST_HEADER), newline="")
    try:
        return [name.strip() for name in next(csv.reader(beginning), [])]
    except csv.Error:
        return []


def rows_of(path: Path, *, strict: bool = False) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and the cells of each row of a CSV list, by column; missing cells are empty.

    Raises:
        DataError: it is not CSV; with `strict` also if its quotes are wrong.
    """
    table = csv.DictReader(io.StringIO(text_of(path), newline=""), restval="", strict=strict)
    try:
        table.fieldnames = [name.strip() for name in table.fieldnames or ()]
        for row in table:
            yield table.line_num, row
    except csv.Error as error:
        raise bad_line(path, table.line_num, str(error)) from None


def bad_line(path: Path, number: int, why: str) -> DataError:
    """Returns the error for a line of a list."""
    return DataError(f"{path}, line {number}: {shortened(why, LONGEST_REASON)}. Correct the list.")


def keep_classes(listing: Listing, names: Sequence[str]) -> Listing:
    """Returns the part of a dataset with these classes, in this order; all other videos are removed.

    Raises:
        UsageError: a name is not a class, or appears twice.
    """
    for name in names:
        if name not in listing.classes:
            near = did_you_mean(name, listing.classes)
            raise UsageError(f"--classes: no class is called '{name}'{near}.")
    if len(set(names)) < len(names):
        raise UsageError(f"--classes: '{next(n for n in names if names.count(n) > 1)}' is listed twice.")
    new = {listing.classes.index(name): label for label, name in enumerate(names)}
    kept = []
    for entry in listing.entries:
        labels = tuple(new[label] for label in entry.labels if label in new)
        if entry.label is None or entry.label in new or labels:
            label = None if entry.label is None else new.get(entry.label, labels[0] if labels else None)
            kept.append(replace(entry, label=label, labels=labels))
    return Listing(tuple(names), tuple(kept), listing.extra)
