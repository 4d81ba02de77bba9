"""Times two functions alternately, so that disturbances of the machine affect both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

PAIRS = 7

Run = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Median seconds of both functions, and the median of baseline / ours over the pairs.

    `spread` measures the machine's noise: the interquartile range of the pairs' ratios, relative to their
    median; None for a single pair.
    """

    ours_s: float
    baseline_s: float
    ratio: float
    spread: float | None


def paired_ratio(ours: Run, baseline: Run, *, pairs: int = PAIRS, synchronise: Run = lambda: None) -> Paired:
    """Times two functions in interleaved pairs, after one warm-up run of each.

    Args:
        ours: a ratio above 1 means that it is faster.
        baseline: the function to compare with.
        pairs: number of timings of both, at least 1.
        synchronise: waits for asynchronous work, as on a GPU.
    """

    def seconds(run: Run) -> float:
        synchronise()
        started = time.perf_counter()
        run()
        synchronise()
        return time.perf_counter() - started

    seconds(ours)
    seconds(baseline)
    times = []
    for pair in range(pairs):
        first, second = (ours, baseline) if pair % 2 == 0 else (baseline, ours)
        one, other = seconds(first), seconds(second)
        times.append((one, other) if pair % 2 == 0 else (other, one))
    ratios = [theirs / mine for mine, theirs in times]
    return Paired(
        ours_s=median(mine for mine, _ in times),
        baseline_s=median(theirs for _, theirs in times),
        ratio=median(ratios),
        spread=_spread(ratios),
    )


def _spread(ratios: list[float]) -> float | None:
    if len(ratios) < 2:
        return None
    first, middle, third = quantiles(ratios, n=4, method="inclusive")
    return (third - first) / middle
