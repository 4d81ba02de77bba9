"""Numbers of a report: shares with their intervals, classes from best to worst, the most confused pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


def percent(share: float) -> str:
    """Returns a share, 0..1, as text."""
    return f"{100 * share:.1f} %"


def interval(share: float, count: int | None) -> str:
    """Returns the 95 % interval of a share of videos as text; nothing where their number is not known."""
    if not count:
        return ""
    low, high = wilson(share * count, count)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


@dataclass(frozen=True)
class ClassResult:
    """How often the videos of one class were told right."""

    name: str
    right: int
    count: int

    @property
    def share(self) -> float:
        """0..1."""
        return self.right / self.count


@dataclass(frozen=True)
class Confused:
    """How many of the `of` videos of a true class were taken for another one."""

    true: str
    taken_for: str
    count: int
    of: int


def class_results(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ClassResult]:
    """Returns every class that has videos, the best first.

    Of classes that do equally well the one with more videos comes first, then the alphabet decides.

    Args:
        confusion: videos, a row for each true class.
        classes: names, by label.
    """
    found = [
        ClassResult(name, row[label], sum(row))
        for label, (name, row) in enumerate(zip(classes, confusion, strict=True))
        if sum(row)
    ]
    return sorted(found, key=lambda result: (-result.share, -result.count, result.name))


def most_confused(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 10
) -> list[Confused]:
    """Returns the pairs of classes that are taken for one another most often, by number of videos."""
    pairs = [
        Confused(classes[true], classes[guess], count, sum(row))
        for true, row in enumerate(confusion)
        for guess, count in enumerate(row)
        if guess != true and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.of, pair.true, pair.taken_for))[
        :most
    ]
