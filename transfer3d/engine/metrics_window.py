"""Averages the metrics of the training steps since the last log line."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from transfer3d.objectives.objective import LossReport

Item = TypeVar("Item")


class MetricsWindow:
    """Averages the steps since the last log line; tensors are read only then.

    Attributes:
        note: the last means, formatted for a progress bar.
        waited: seconds spent waiting for batches since the last log line.
    """

    def __init__(self) -> None:
        self.note, self.waited = "", 0.0
        self._reports: list[dict[str, torch.Tensor]] = []
        self._clips, self._started = 0, time.monotonic()

    def add(self, report: LossReport, clips: int) -> None:
        """Adds the report of a step, and its number of clips over all processes."""
        self._reports.append(report.parts)
        self._clips += clips

    def time_waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and measures the time spent waiting for them."""
        source = iter(items)
        while True:
            started = time.monotonic()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited += time.monotonic() - started
            yield item

    def flush(self) -> dict[str, float]:
        """Returns the means, the clips per second and the share of time spent waiting; starts over."""
        names = dict.fromkeys(name for parts in self._reports for name in parts)
        means = {
            name: float(torch.stack([parts[name].float() for parts in self._reports if name in parts]).mean())
            for name in names
        }
        self.note = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        now = time.monotonic()
        seconds = now - self._started
        rates = {
            "clips_per_second": round(self._clips / seconds, 2),
            "data_wait": round(self.waited / seconds, 4),
        }
        self._reports, self._clips, self._started, self.waited = [], 0, now, 0.0
        return means | rates
