"""Accuracies with intervals over videos and seeds, by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000


class Interval(NamedTuple):
    """A mean and the 2.5 % and 97.5 % quantiles of its bootstrap distribution."""

    mean: float
    low: float
    high: float

    def text(self, *, signed: bool = False) -> str:
        """Returns percent points: mean, and the interval in brackets."""
        sign = "+" if signed else ""
        return f"{100 * self.mean:{sign}.1f} [{100 * self.low:{sign}.1f}, {100 * self.high:{sign}.1f}]"

    def videos_needed(self, videos: int) -> int | None:
        """Returns how many videos an interval over `videos` would need to just reach zero; None for mean 0.

        The width of an interval falls with the square root of the number of videos. Their spread is taken as
        it is here; an interval that excludes zero needs fewer than it has.
        """
        half = (self.high - self.low) / 2
        return math.ceil(videos * (half / self.mean) ** 2) if self.mean else None


def bootstrap(values_SN: NDArray[np.float64], sources: Sequence[str], *, seed: int = 0) -> Interval:
    """Returns mean and 95 % interval over seeds and source videos, both drawn with replacement.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; videos of one source are
    drawn together, as a cluster, since they are not independent.

    Args:
        values_SN: of every seed and video: 1 where it is right, or a difference of two rows.
        sources: of the N videos.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names, cluster_N = np.unique(list(sources), return_inverse=True)
    seeds, means = len(values_SN), []
    for _ in range(DRAWS):
        drawn_N = values_SN[rng.integers(seeds, size=seeds)].mean(0)
        weight_N = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[cluster_N]
        means.append((drawn_N * weight_N).sum() / weight_N.sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values_SN.mean()), float(low), float(high))
