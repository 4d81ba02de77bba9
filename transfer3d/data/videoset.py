"""The interface of video sets, which the pipeline reads."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transfer3d.data.container import Source
from transfer3d.data.flow import FlowFormat
from transfer3d.errors import UsageError
from transfer3d.layout import FLOW_CHANNELS, RGB_CHANNELS, ClipSpec


@dataclass(frozen=True)
class Dropped:
    """A file that was left out, with the reason."""

    path: str
    reason: str


class VideoSet(ABC):
    """Videos by index, in a fixed order.

    A subclass needs `keys` and `open`; everything else has a default, which an attribute or a property of the
    same name overrides.

    Attributes:
        keys: a unique name for each video.
        classes: names, by label.
        sequential_groups: sizes of the groups of videos that must be read sequentially; empty if videos can
            be read in any order.
        shuffle_buffer: number of these groups that are shuffled together.
        official: number of videos that the dataset lists for this split, found or not; None if unknown.
        dropped: files that were left out when the set was opened.
        frame_counts: number of frames of each video, 0 if unknown; empty if all are unknown.
        flow: format of optical flow (see `encode_flow`); None = RGB videos.

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
    flow: FlowFormat | None = None

    @abstractmethod
    def open(self, index: int) -> Source:
        """Returns a video's path, or the bytes of its file.

        Raises:
            DataError: the bytes differ from those that were written.
        """

    @property
    def channels(self) -> int:
        """C of its clips: 2 for optical flow, 3 for RGB."""
        return FLOW_CHANNELS if self.flow else RGB_CHANNELS

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """The class of each video; None, the default, if unlabelled."""
        return [None] * len(self)

    @cached_property
    def label_sets(self) -> Sequence[tuple[int, ...]]:
        """All labels of each video; by default only its class."""
        return [() if label is None else (label,) for label in self.labels]

    @cached_property
    def multi_label(self) -> bool:
        """Whether any video has several labels."""
        return any(len(labels) > 1 for labels in self.label_sets)

    @cached_property
    def sources(self) -> Sequence[str]:
        """The original video of each, by default its key: clips of one source are never a negative pair."""
        return self.keys

    @cached_property
    def digest(self) -> str:
        """The sha256 that identifies the set, in hex; by default of classes, keys, labels and sources."""
        content = [list(self.classes), list(self.keys), list(self.labels), list(self.sources)]
        if self.multi_label:
            content.append(list(self.label_sets))
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def check_channels(videos: VideoSet, clip: ClipSpec) -> None:
    """Raises UsageError if only one of videos and student is for optical flow."""
    if videos.channels == clip.channels:
        return
    if videos.flow:
        raise UsageError(
            f"the videos are optical flow ({videos.flow}), the student takes {clip.channels} channels. Give "
            "it RGB videos, or make a student of flow: `transfer3d inflate ... --in-chans 2`."
        )
    raise UsageError(
        f"the student takes {clip.channels} channels, the videos are RGB. Make their optical flow with "
        "`transfer3d shard ... --flow tvl1`, or give an RGB student."
    )
