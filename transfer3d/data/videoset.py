"""The interface of every source of videos: what the pipeline reads."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transfer3d.data.container import Source


@dataclass(frozen=True)
class Dropped:
    """A file that was left out, and why."""

    path: str
    reason: str


class VideoSet(ABC):
    """Videos by number, in one fixed order.

    A subclass needs `keys` and `open`; everything else has a default, which an attribute or a property of the
    same name replaces.

    Attributes:
        keys: a unique name for each video.
        classes: names, by label.
        sequential_groups: sizes of the groups of videos that must be read one after another; empty where
            videos can be read in any order.
        shuffle_buffer: how many of these groups are shuffled together.
        official: how many videos the dataset lists for this split, found or not; None where it is unknown.
        dropped: files that were left out when the set was opened.
        frame_counts: number of frames of each video, 0 where it is unknown; empty where all are.

    Example:
        >>> class Numbered(VideoSet):
        ...     keys = ("1.mp4", "2.mp4")
        ...
        ...     def open(self, index):
        ...         return Path("videos") / self.keys[index]
    """

    keys: Sequence[str]
    classes: Sequence[str] = ()
    sequential_groups: Sequence[int] = ()
    shuffle_buffer: int = 0
    official: int | None = None
    dropped: Sequence[Dropped] = ()
    frame_counts: Sequence[int] = ()

    @abstractmethod
    def open(self, index: int) -> Source:
        """Returns a video's path, or the bytes of its file.

        Raises:
            DataError: the bytes differ from those that were written.
        """

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """The class of each video; None, the default, where it has none."""
        return [None] * len(self)

    @cached_property
    def label_sets(self) -> Sequence[tuple[int, ...]]:
        """All classes of each video; by default its label alone."""
        return [() if label is None else (label,) for label in self.labels]

    @cached_property
    def sources(self) -> Sequence[str]:
        """The original video of each, by default its key: clips of one source are never a negative pair."""
        return self.keys

    @cached_property
    def digest(self) -> str:
        """Identifies the set, sha256, hex; by default of its classes, keys, labels and sources."""
        content = list(self.classes), list(self.keys), list(self.labels), list(self.sources)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
