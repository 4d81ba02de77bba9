"""A set of videos from a list of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from transfer3d.data.folder import SUFFIXES, missing
from transfer3d.data.isolated import Fault, Limits, isolated_map
from transfer3d.data.prepare import count_frames
from transfer3d.data.videoset import Dropped, VideoSet
from transfer3d.errors import DataError, UsageError, did_you_mean

CHILDREN, FILES_OF_A_CHILD = 8, 16  # maximum number of children, and minimum number of files per child
SLOWEST = 10 * 2**20  # minimum read rate of a disk, bytes per second


class VideoList(VideoSet):
    """Video files. Each is opened once at the start, in child processes with limits on time and memory.

    Files that cannot be decoded are left out, see `dropped`.

    Args:
        files: the videos.
        labels: class of each file by name or index, a sequence of several, or None if unlabelled; None = all
            unlabelled.
        groups: the original video of each file, `sources`: clips of one group are never a negative pair, and
            never divided between training and validation. Default: each file is its own group.
        classes: names, by label. Default: the distinct names of the labels, sorted, or the numbers from 0.
        root: folder to which keys are relative. Default: keys are the paths as given.

    Raises:
        UsageError: a file does not exist or is listed twice, the lists differ in length, or a label is not
            among the classes.
        DataError: no file can be decoded.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        labels: Sequence[str | int | Sequence[str | int] | None] | None = None,
        groups: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        *,
        root: Path | None = None,
    ) -> None:
        paths = [Path(file) for file in files]
        for name, values in (("labels", labels), ("groups", groups)):
            if values is not None and len(values) != len(paths):
                raise UsageError(f"{len(values)} {name} for {len(paths)} files. Give one for each file.")
        given = [None] * len(paths) if labels is None else labels
        self.classes, numbers = _numbered([_label_set(label) for label in given], classes)
        prefix = f"{root}: " if root else ""
        counts = self._check(paths, prefix)
        good = [i for i, count in enumerate(counts) if count is not None]
        self.frame_counts = [counts[i] or 0 for i in good]
        self._files = [paths[i] for i in good]
        self.keys = [(file.relative_to(root) if root else file).as_posix() for file in self._files]
        if len(set(self.keys)) < len(self.keys):
            twice = next(key for key in self.keys if self.keys.count(key) > 1)
            raise UsageError(f"{prefix}{twice} is listed twice. List each file once.")
        self.label_sets = [numbers[i] for i in good]
        self.labels = [labels[0] if labels else None for labels in self.label_sets]
        sizes = [file.stat().st_size for file in self._files]
        content = [list(self.classes), [list(row) for row in zip(self.keys, self.labels, sizes, strict=True)]]
        if self.multi_label:
            content.append(self.label_sets)
        if groups is not None:
            self.sources = [groups[i] for i in good]
            content.append(self.sources)
        self.digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def open(self, index: int) -> Path:
        """Returns the video's path."""
        return self._files[index]

    def _check(self, paths: Sequence[Path], prefix: str) -> list[int | None]:
        """Returns each file's number of frames, None for undecodable ones, which are added to `dropped`."""
        if not paths:
            raise DataError(f"{prefix}no videos. Their names end in {', '.join(SUFFIXES)}.")
        if absent := next((path for path in paths if not path.is_file()), None):
            raise missing(absent, "Give paths of video files.")
        workers = min(CHILDREN, os.cpu_count() or 1, -(-len(paths) // FILES_OF_A_CHILD))
        longest = max(path.stat().st_size for path in paths) / SLOWEST
        limits = Limits(seconds=Limits.seconds + longest)
        found = list(
            isolated_map(count_frames, list(map(Path.absolute, paths)), workers=workers, limits=limits)
        )
        self.dropped = [
            Dropped(str(path), _named(path, answer))
            for path, answer in zip(paths, found, strict=True)
            if isinstance(answer, Fault)
        ]
        if len(self.dropped) == len(paths):
            reason = self.dropped[0].reason
            if len(paths) == 1:
                raise DataError(f"{reason}.")
            raise DataError(f"{prefix}none of {len(paths)} videos decodes, first: {reason}.")
        return [None if isinstance(answer, Fault) else answer for answer in found]


def _label_set(label: str | int | Sequence[str | int] | None) -> tuple[str | int, ...]:
    """Returns the labels of one file."""
    if label is None:
        return ()
    given = label if isinstance(label, Sequence) and not isinstance(label, str) else [label]
    return tuple(dict.fromkeys(one if isinstance(one, str) else int(one) for one in given))


def _numbered(
    label_sets: Sequence[tuple[str | int, ...]], classes: Sequence[str] | None
) -> tuple[Sequence[str], list[tuple[int, ...]]]:
    """Returns the names of the classes, and the labels as numbers."""
    labels = [label for given in label_sets for label in given]
    names = {label for label in labels if isinstance(label, str)}
    if classes is None:
        most = max((label for label in labels if isinstance(label, int)), default=-1)
        classes = sorted(names) if names else [str(number) for number in range(most + 1)]
    number_of = {name: number for number, name in enumerate(classes)}
    for label in labels:
        if isinstance(label, str) and label not in number_of:
            raise UsageError(f"label '{label}' is not among the classes{did_you_mean(label, classes)}.")
        if isinstance(label, int) and not 0 <= label < len(classes):
            raise UsageError(f"label {label} is outside the {len(classes)} classes 0..{len(classes) - 1}.")
    return classes, [
        tuple(number_of[label] if isinstance(label, str) else label for label in given)
        for given in label_sets
    ]


def _named(path: Path, fault: Fault) -> str:
    """Returns the reason, prefixed with the file's name if it lacks it, as for a crash."""
    return fault.reason if fault.reason.startswith(path.name) else f"{path.name}: {fault.reason}"
