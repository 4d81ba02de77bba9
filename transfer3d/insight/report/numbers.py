"""Numbers of a report: shares with their intervals, classes from best to worst, the most confused pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transfer3d.insight.intervals import wilson


def percent(share: float) -> str:
    """Returns a share, 0..1, as text."""
    return f"{100 * share:.1f} %"


def interval(share: float, count: int | None) -> str:
    """Returns the 95 % interval of a share of videos as text; "" if their number is unknown."""
    if not count:
        return ""
    low, high = wilson(share * count, count)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


@dataclass(frozen=True)
class ClassResult:
    """Accuracy on the videos of one class."""

    name: str
    right: int
    count: int

    @property
    def share(self) -> float:
        """0..1."""
        return self.right / self.count


@dataclass(frozen=True)
class Confused:
    """Number of the `of` videos of a true class that were predicted as another class."""

    true: str
    taken_for: str
    count: int
    of: int


def class_results(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ClassResult]:
    """Returns every class that has videos, sorted by accuracy, then by number of videos, then by name.

    Args:
        confusion: videos, a row for each true class.
        classes: names, by label.
    """
    results = [
        ClassResult(name, row[label], sum(row))
        for label, (name, row) in enumerate(zip(classes, confusion, strict=True))
        if sum(row)
    ]
    return sorted(results, key=lambda result: (-result.share, -result.count, result.name))


def most_confused(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 10
) -> list[Confused]:
    """Returns the most frequently confused pairs of classes, by number of videos."""
    pairs = [
        Confused(classes[true], classes[guess], count, sum(row))
        for true, row in enumerate(confusion)
        for guess, count in enumerate(row)
        if guess != true and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.of, pair.true, pair.taken_for))[
        :most
    ]
