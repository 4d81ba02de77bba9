"""95 % intervals of shares, and of the difference of two shares of the same videos."""

from __future__ import annotations

import math

Z = 1.959964
"""Of a normal distribution, 95 % lie within this many standard deviations."""


def wilson(right: float, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share, 0..1 (Wilson 1927; unlike p ± z s it never leaves 0..1).

    Args:
        right: how many of the videos.
        count: of videos, at least 1.
    """
    share = right / count
    centre = share + Z**2 / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


def paired_difference(gained: int, lost: int, count: int) -> tuple[float, float, float]:
    """Returns how much more the second of two students tells right, and the 95 % interval, each -1..1.

    Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions": Wald's
    interval after half a video was added to each of the four cells.

    Args:
        gained: videos that only the second one tells right.
        lost: videos that only the first one tells right.
        count: of all videos that both were tested on, at least 1.
    """
    more, less, total = gained + 0.5, lost + 0.5, count + 2
    centre = (more - less) / total
    half = Z * math.sqrt(more + less - (more - less) ** 2 / total) / total
    return (gained - lost) / count, max(centre - half, -1.0), min(centre + half, 1.0)
