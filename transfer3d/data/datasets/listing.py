"""What a layout knows of a dataset: which videos it lists, where they are, which are missing.

The reading of the lists themselves is the layouts' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from transfer3d.data.flow_files import flow_folders
from transfer3d.data.folder import composed, is_video, videos_under
from transfer3d.errors import DataError, UsageError, did_you_mean
from transfer3d.files import read_regular

MOST_BYTES = 1 << 30
"""Of a list."""


@dataclass(frozen=True)
class Cut:
    """A part of a video.

    Attributes:
        start: seconds; where `relative`, the share (0 to 1) of all places where the part fits.
        seconds: length; the video's end ends it earlier.
        relative: see `start`.
    """

    start: float
    seconds: float
    relative: bool = False


@dataclass(frozen=True)
class Entry:
    """One video that a dataset lists.

    Attributes:
        name: as the list calls it.
        path: a file, or a folder of frames; None where it is missing.
        split: train, val, test or unlabelled.
        label: class, or None.
        source: the original video that it was cut from.
        cut: which part of the file; None = all.
        labels: all classes, where it may have several.
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
    """A dataset.

    Attributes:
        classes: names, by label.
        entries: what is listed, missing ones included.
        extra: files in the folder that are not listed.
    """

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    extra: tuple[Path, ...] = ()

    @property
    def missing(self) -> list[Entry]:
        """What is listed and not there."""
        return [entry for entry in self.entries if entry.path is None]

    @property
    def found(self) -> list[Entry]:
        """What is there."""
        return [entry for entry in self.entries if entry.path is not None]

    def counts(self) -> dict[str, int]:
        """Returns how many videos are listed, by split."""
        return dict(Counter(entry.split for entry in self.entries))


@dataclass(frozen=True)
class Request:
    """Where to look.

    Attributes:
        root: folder of the videos, or a list of them.
        annotations: folder of the lists; None = the root and the folders in it.
        fold: which of a dataset's numbered splits.
        flow_files: the videos are folders of flow pictures (see `flow_files`), not video files.
    """

    root: Path
    annotations: Path | None = None
    fold: int = 1
    flow_files: bool = False

    def videos(self, folder: Path) -> list[Path]:
        """Returns all videos below a folder, sorted."""
        return flow_folders(folder) if self.flow_files else videos_under(folder)

    def notes(self, pattern: str) -> list[Path]:
        """Returns the annotation files with such a name, sorted."""
        if self.annotations is not None:
            return _files(self.annotations, pattern)
        return _files(self.root, pattern) or _files(self.root, f"*/{pattern}")

    def note(self, pattern: str) -> Path:
        """Returns the one annotation file with such a name.

        Raises:
            DataError: there is none.
        """
        if not (notes := self.notes(pattern)):
            where = self.annotations or self.root
            raise DataError(f"{where}: no {pattern}. Name its folder with --annotations.")
        return notes[0]


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file()) if folder.is_dir() else []


class Finder:
    """Finds listed videos by their names without suffix, in any folder of the dataset.

    Args:
        request: where the dataset is.
        fold_case: whether A and a are one letter (not so in the names of YouTube).
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
        """Returns the first that is there; of several with one name, that in a folder called so."""
        for stem in stems:
            places = self._by_stem.get(self._name(stem), [])
            if len(places) > 1 and folder is not None:
                places = [path for path in places if _plain(folder) in map(_plain, path.parts)] or places
            if places:
                return places[0]
        return None

    def listing(self, classes: Sequence[str], entries: Iterable[Entry]) -> Listing:
        """Returns the listing, with the files that no entry names."""
        entries = tuple(entries)
        named = {entry.path for entry in entries}
        return Listing(tuple(classes), entries, tuple(path for path in self.files if path not in named))


def video_stem(path: PurePath) -> str:
    """Returns the name of a video without the suffix of its file; a folder has none."""
    return path.stem if is_video(path) else path.name


def _plain(folder: str) -> str:
    return composed(folder).replace(" ", "_").casefold()


def text_of(path: Path) -> str:
    """Returns a list's text, in Unicode's composed form.

    Raises:
        DataError: it is not UTF-8, not a regular file, or too large.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except ValueError as error:
        raise DataError(f"{path}: {error}. Name the right list.") from None
    try:
        return composed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise bad_line(path, content.count(b"\n", 0, error.start) + 1, "it is not UTF-8") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number and text of each line that is not empty."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if text := line.strip():
            yield number, text


def bad_line(path: Path, number: int, why: str) -> DataError:
    """Returns the error for a line of a list."""
    return DataError(f"{path}, line {number}: {why}. Mend the list.")


def keep_classes(listing: Listing, names: Sequence[str]) -> Listing:
    """Returns the part of a dataset that has these classes, in this order; the rest is as if it never was.

    Raises:
        UsageError: a name that is not a class, or appears twice.
    """
    for name in names:
        if name not in listing.classes:
            near = did_you_mean(name, listing.classes)
            raise UsageError(f"--classes: no class is called '{name}'{near}.")
    if len(set(names)) < len(names):
        raise UsageError(f"--classes: '{next(n for n in names if names.count(n) > 1)}' is there twice.")
    new = {listing.classes.index(name): label for label, name in enumerate(names)}
    kept = []
    for entry in listing.entries:
        labels = tuple(new[label] for label in entry.labels if label in new)
        if entry.label is None or entry.label in new or labels:
            label = None if entry.label is None else new.get(entry.label, labels[0] if labels else None)
            kept.append(replace(entry, label=label, labels=labels))
    return Listing(tuple(names), tuple(kept), listing.extra)
