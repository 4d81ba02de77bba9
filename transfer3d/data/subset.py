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

    Clips of one source video stay together, also where they are of several classes. Of every class, at least
    one source is kept; and one is held out if the class has another one that no class must keep.

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
    orders = [(sources, rng.permutation(list(sources)).tolist()) for _, sources in sorted(groups.items())]
    kept = {order[-1] for _, order in orders}
    held: set[str] = set()
    for sources, order in orders:
        target = share * sum(map(len, sources.values()))
        taken = sum(len(sources[source]) for source in order if source in held)
        for source in order:
            if taken >= target:
                break
            if source not in kept and source not in held:
                held.add(source)
                taken += len(sources[source])
    parts: tuple[list[int], list[int]] = [], []
    for index, source in enumerate(videos.sources):
        parts[source in held].append(index)
    return Subset(videos, parts[0]), Subset(videos, parts[1])


def _refuse_sequential(videos: VideoSet, key: str) -> None:
    if videos.sequential_groups:
        raise UsageError(f"{key} needs videos in any order: the server does not support byte ranges.")
