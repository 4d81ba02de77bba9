"""Subsets of a set of videos."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from transfer3d.data.container import Source
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import UsageError


class Subset(VideoSet):
    """Some videos of another set, in its order.

    Args:
        whole: the other set.
        indices: indices of its videos.
    """

    def __init__(self, whole: VideoSet, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, list(indices)
        self.keys = [whole.keys[index] for index in indices]
        self.labels = [whole.labels[index] for index in indices]
        self.label_sets = [whole.label_sets[index] for index in indices]
        self.sources = [whole.sources[index] for index in indices]
        self.frame_counts = [whole.frame_counts[index] for index in indices] if whole.frame_counts else ()
        self.classes, self.official, self.dropped = whole.classes, whole.official, whole.dropped
        self.flow = whole.flow
        self.digest = hashlib.sha256(f"{whole.digest} {self._indices}".encode()).hexdigest()

    def open(self, index: int) -> Source:
        """See `VideoSet.open`."""
        return self._whole.open(self._indices[index])


def share_of(videos: VideoSet, share: float, *, seed: int) -> VideoSet:
    """Returns a share of the videos, equal for all classes, with at least one of each.

    Args:
        videos: the whole set; returned unchanged if the share is 1.
        share: 0..1.
        seed: for the selection.

    Raises:
        UsageError: the videos must be read sequentially.
    """
    if share == 1:
        return videos
    _refuse_sequential(videos, "data_share")
    rng = np.random.default_rng(seed)
    members: dict[int | None, list[int]] = {}
    for index, label in enumerate(videos.labels):
        members.setdefault(label, []).append(index)
    chosen = [
        rng.permutation(indices)[: max(math.floor(share * len(indices) + 0.5), 1)].tolist()
        for _, indices in sorted(members.items(), key=lambda item: -1 if item[0] is None else item[0])
    ]
    return Subset(videos, sorted(index for indices in chosen for index in indices))


def split_off(videos: VideoSet, share: float, *, seed: int) -> tuple[VideoSet, VideoSet]:
    """Splits off a share of the videos of every class; returns the rest and that share.

    Clips of one source video stay together. For every class, at least one source is held out, and at least
    one kept; a class with a single source has none held out.

    Args:
        videos: the whole set, labelled.
        share: 0..1.
        seed: for the selection.

    Raises:
        UsageError: the videos must be read sequentially.
    """
    _refuse_sequential(videos, "val_share")
    rng = np.random.default_rng(seed)
    groups: dict[int, dict[str, list[int]]] = {}
    for index, (label, source) in enumerate(zip(videos.labels, videos.sources, strict=True)):
        groups.setdefault(-1 if label is None else label, {}).setdefault(source, []).append(index)
    held: set[int] = set()
    for _, sources in sorted(groups.items()):
        target, taken = share * sum(map(len, sources.values())), 0
        for source in rng.permutation(list(sources))[:-1]:
            if taken >= target:
                break
            held.update(sources[source])
            taken += len(sources[source])
    rest = [index for index in range(len(videos)) if index not in held]
    return Subset(videos, rest), Subset(videos, sorted(held))


def _refuse_sequential(videos: VideoSet, key: str) -> None:
    if videos.sequential_groups:
        raise UsageError(f"{key} needs videos in any order: the server does not support byte ranges.")
