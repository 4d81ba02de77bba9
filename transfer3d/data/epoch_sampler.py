"""In which order videos are trained on: pure functions of (seed, position)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from transfer3d.data.batch import ClipId
from transfer3d.data.sampling import Indices
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import UsageError


class EpochSampler:
    """The endless row of permutations, one an epoch.

    Args:
        seed: of the permutations.
        count: of the videos.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._seed, self._count = seed, count

    def draw(self, position: int) -> ClipId:
        """Returns the video at a position of the sequence."""
        epoch, place = divmod(position, self._count)
        return ClipId(epoch, int(self.epoch(epoch)[place]))

    def epoch(self, epoch: int) -> Indices:
        """Returns the videos of an epoch."""
        return _permutation(self._seed, epoch, self._count)


class BufferedEpochSampler(EpochSampler):
    """Epochs for videos that are read run by run: runs in a mixed order, mixed within some of them at a time.

    Args:
        seed: of the permutations.
        runs: how many videos each group has.
        buffer: runs that are mixed.
    """

    def __init__(self, seed: int, runs: Sequence[int], buffer: int) -> None:
        super().__init__(seed, sum(runs))
        ends = np.cumsum(runs)
        self._runs = [np.arange(end - length, end) for end, length in zip(ends, runs, strict=True)]
        self._buffer = buffer
        self._last: tuple[int, Indices] | None = None

    def epoch(self, epoch: int) -> Indices:
        """Returns the videos of an epoch."""
        if self._last is None or self._last[0] != epoch:
            rng = np.random.default_rng((self._seed, epoch))
            runs = [self._runs[number] for number in rng.permutation(len(self._runs))]
            mixed = [
                rng.permutation(np.concatenate(runs[start : start + self._buffer]))
                for start in range(0, len(runs), self._buffer)
            ]
            self._last = epoch, np.concatenate(mixed)
        return self._last[1]


class BalancedEpochSampler(EpochSampler):
    """Epochs of as many videos, in which each class comes equally often, but for one.

    A class with too few videos repeats them, evenly; of one with too many each epoch takes others. A video of
    several classes may be drawn for each of them.

    Args:
        seed: of all that is drawn.
        label_sets: all classes of each video.

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
        self._last: tuple[int, Indices] | None = None

    def epoch(self, epoch: int) -> Indices:
        """Returns the videos of an epoch."""
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self._made(epoch)
        return self._last[1]

    def _made(self, epoch: int) -> Indices:
        rng = np.random.default_rng((self._seed, epoch))
        least, more = divmod(self._count, len(self._members))
        lucky = set(rng.permutation(len(self._members))[:more].tolist())
        chosen = []
        for number, members in enumerate(self._members):
            needed = least + (number in lucky)
            rounds = [rng.permutation(members) for _ in range(-(-needed // len(members)))]
            chosen += [np.concatenate(rounds)[:needed]] if needed else []
        return rng.permutation(np.concatenate(chosen))


def make_epoch_sampler(videos: VideoSet, seed: int, *, balanced: bool) -> EpochSampler:
    """Returns the order for a set of videos.

    Raises:
        UsageError: balanced, and a video has no label, or videos are read run by run.
    """
    if balanced and videos.sequential_groups:
        raise UsageError("balanced needs videos in any order: the server gives no byte ranges.")
    if balanced:
        return BalancedEpochSampler(seed, videos.label_sets)
    if videos.sequential_groups:
        return BufferedEpochSampler(seed, videos.sequential_groups, videos.shuffle_buffer)
    return EpochSampler(seed, len(videos))


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> Indices:
    return np.random.default_rng((seed, epoch)).permutation(count)
