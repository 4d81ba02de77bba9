"""The order of training videos, as pure functions of (seed, position)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transfer3d.data.batch import ClipId
from transfer3d.data.sampling import Indices
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import UsageError


class EpochSampler:
    """The endless sequence of permutations, one per epoch.

    Args:
        seed: seed of the permutations.
        count: number of videos.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._seed, self._count = seed, count
        self._last: tuple[int, Indices] | None = None

    def draw(self, position: int) -> ClipId:
        """Returns the video at a position of the sequence."""
        epoch, place = divmod(position, self._count)
        return ClipId(epoch, int(self.epoch(epoch)[place]))

    def epoch(self, epoch: int) -> Indices:
        """Returns the videos of an epoch."""
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self._order(np.random.default_rng((self._seed, epoch)))
        return self._last[1]

    def _order(self, rng: np.random.Generator) -> Indices:
        """Draws the order of an epoch."""
        return rng.permutation(self._count)


class BufferedEpochSampler(EpochSampler):
    """Epochs for videos in groups that must be read sequentially, such as shards.

    The order of the groups is shuffled, and videos are shuffled within a buffer of several groups.

    Args:
        seed: seed of the permutations.
        sizes: number of videos in each group.
        buffer: number of groups in the buffer.
    """

    def __init__(self, seed: int, sizes: Sequence[int], buffer: int) -> None:
        super().__init__(seed, sum(sizes))
        self._groups = np.split(np.arange(self._count), np.cumsum(sizes)[:-1])
        self._buffer = buffer

    def _order(self, rng: np.random.Generator) -> Indices:
        groups = [self._groups[number] for number in rng.permutation(len(self._groups))]
        mixed = [
            rng.permutation(np.concatenate(groups[start : start + self._buffer]))
            for start in range(0, len(groups), self._buffer)
        ]
        return np.concatenate(mixed)


class BalancedEpochSampler(EpochSampler):
    """Epochs of the same length, in which class counts differ by at most one.

    A class with too few videos repeats them evenly; of a class with too many, each epoch draws a new random
    subset. A multi-label video may be drawn for each of its classes.

    Args:
        seed: for all random choices.
        label_sets: all labels of each video.

    Raises:
        UsageError: a video without a label.
    """

    def __init__(self, seed: int, label_sets: Sequence[tuple[int, ...]]) -> None:
        super().__init__(seed, len(label_sets))
        if not all(label_sets):
            raise UsageError("balanced needs labels. Switch it off for unlabelled videos.")
        members: dict[int, list[int]] = {}
        for index, labels in enumerate(label_sets):
            for label in labels:
                members.setdefault(label, []).append(index)
        self._members = [np.array(members[label]) for label in sorted(members)]

    def draw(self, position: int) -> ClipId:
        """Returns the video at a position, and how often the epoch has drawn it before."""
        epoch, place = divmod(position, self._count)
        videos = self.epoch(epoch)
        return ClipId(epoch, int(videos[place]), int((videos[:place] == videos[place]).sum()))

    def _order(self, rng: np.random.Generator) -> Indices:
        least, more = divmod(self._count, len(self._members))
        lucky = set(rng.permutation(len(self._members))[:more].tolist())
        chosen = []
        for number, members in enumerate(self._members):
            needed = least + (number in lucky)
            rounds = [rng.permutation(members) for _ in range(-(-needed // len(members)))]
            chosen += [np.concatenate(rounds)[:needed]] if needed else []
        return rng.permutation(np.concatenate(chosen))


def make_epoch_sampler(videos: VideoSet, seed: int, *, balanced: bool) -> EpochSampler:
    """Returns the sampler for a set of videos.

    Raises:
        UsageError: balanced, and a video has no label or videos must be read sequentially.
    """
    if balanced and videos.sequential_groups:
        raise UsageError("balanced needs videos in any order: the server does not support byte ranges.")
    if balanced:
        return BalancedEpochSampler(seed, videos.label_sets)
    if videos.sequential_groups:
        return BufferedEpochSampler(seed, videos.sequential_groups, videos.shuffle_buffer)
    return EpochSampler(seed, len(videos))
