"""95 % confidence intervals of a share, and of the difference of two shares on the same videos."""

from __future__ import annotations

import math

from scipy.stats import binomtest

Z = 1.959964
"""Quantile of the normal distribution for 95 %, two-sided."""


def wilson(correct: float, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share, 0..1 (Wilson 1927).

    Args:
        correct: number of videos, rounded to a whole one.
        count: number of videos, at least 1.
    """
    interval = binomtest(round(correct), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(gained: int, lost: int, count: int) -> tuple[float, float, float]:
    """Returns the accuracy of the second of two students minus that of the first, and its 95 % interval.

    Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions": Wald's
    interval after adding half a video to each of the four cells. All three numbers are -1..1.

    Args:
        gained: videos that only the second student classifies correctly.
        lost: videos that only the first one classifies correctly.
        count: number of videos that both were evaluated on, at least 1.
    """
    more, less, total = gained + 0.5, lost + 0.5, count + 2
    centre = (more - less) / total
    half = Z * math.sqrt(more + less - (more - less) ** 2 / total) / total
    return (gained - lost) / count, max(centre - half, -1.0), min(centre + half, 1.0)
