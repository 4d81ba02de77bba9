"""Means over seeds with their intervals: Student's t, paired where rows are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as students_t


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided 95 % interval.

    Attributes:
        mean: over the seeds.
        half: half of the interval's width; NaN for one seed.
        count: of the seeds.
    """

    mean: float
    half: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside."""
        return abs(self.mean) > self.half

    def text(self, *, signed: bool = False) -> str:
        """Returns the mean and half the width in percent points."""
        mean = f"{100 * self.mean:{'+' if signed else ''}.1f}"
        return mean if np.isnan(self.half) else f"{mean} ± {100 * self.half:.1f}"


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Returns mean and interval of independent values, at least one."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(mean, float("nan"), count)
    error = float(np.std(values, ddof=1)) / np.sqrt(count)
    return Interval(mean, float(students_t.ppf((1 + confidence) / 2, count - 1) * error), count)


def paired_difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Interval:
    """Returns mean and interval of ours - baseline over the seeds that both have, at least one."""
    seeds = sorted(ours.keys() & baseline.keys())
    return interval([ours[seed] - baseline[seed] for seed in seeds])
