"""ActivityNet: one JSON file of timed segments; videos are named `v_<id>` or `<id>`.

Each segment becomes a video of its class; a segment that is listed for several classes has all of them. The
test videos, which have no segments, stay whole and unlabelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer3d.data.datasets.listing import Cut, Entry, Finder, Listing, Request, json_of
from transfer3d.data.folder import SPLIT_NAMES
from transfer3d.errors import DataError


def applies(request: Request) -> bool:
    """Whether there is a JSON file with a `database` of subsets."""
    return _list(request) is not None


@dataclass(frozen=True)
class Segment:
    """A part of a video, in seconds, and its class."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Annotated:
    """A listed video: its id, its split (train, val or test) and its segments, empty for test videos."""

    name: str
    split: str
    segments: tuple[Segment, ...]


def read(request: Request) -> Listing:
    """Reads the segments, as splits train, val and test."""
    videos, finder = read_annotations(request), Finder(request)
    classes = class_names(videos)
    entries = []
    for video in videos:
        spans: dict[tuple[float, float], dict[int, None]] = {}
        for part in video.segments:
            spans.setdefault((part.start, part.end), {})[classes.index(part.label)] = None
        for (start, end), labels in spans.items():
            name, cut = f"{video.name} {start:g}-{end:g} s", Cut(start, end - start)
            first, several = next(iter(labels)), tuple(labels) if len(labels) > 1 else ()
            place = find(finder, video)
            entries.append(Entry(name, place, video.split, first, video.name, cut, several))
    entries += [whole(finder, video, ()) for video in videos if not video.segments]
    return finder.listing(classes, entries)


def read_annotations(request: Request) -> list[Annotated]:
    """Returns the videos of the list.

    Raises:
        DataError: the file has another form, or a segment is empty.
    """
    path = _list(request)
    assert path is not None
    content = json_of(path)
    try:
        database: dict[str, Any] = content["database"]
        videos = [
            Annotated(name, SPLIT_NAMES[video["subset"]], tuple(map(_segment, video["annotations"])))
            for name, video in database.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: not ActivityNet's JSON ({error!r}). Copy it again.") from None
    for video in videos:
        for part in video.segments:
            if not 0 <= part.start < part.end:
                where = f"{video.name}: segment {part.start} to {part.end} s"
                raise DataError(f"{path}: {where} is empty. Correct the list.")
    return videos


def class_names(videos: Iterable[Annotated]) -> list[str]:
    """Returns the names of the classes, sorted."""
    return sorted({part.label for video in videos for part in video.segments})


def find(finder: Finder, video: Annotated) -> Path | None:
    """Returns the file of a video."""
    return finder.find(f"v_{video.name}", video.name)


def whole(finder: Finder, video: Annotated, labels: tuple[int, ...]) -> Entry:
    """Returns a video from its beginning to its end."""
    label = labels[0] if labels else None
    return Entry(video.name, find(finder, video), video.split, label, video.name, None, labels)


def _segment(note: dict[str, Any]) -> Segment:
    start, end = note["segment"]
    return Segment(float(start), float(end), str(note["label"]))


def _list(request: Request) -> Path | None:
    """Returns the first JSON file that looks like ActivityNet's."""
    for path in request.notes("*.json"):
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(100_000)
        if '"database"' in start or '"subset"' in start:
            return path
    return None
