"""What was reported since the last log line."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from transfer3d.objectives.objective import LossReport

Item = TypeVar("Item")


class Window:
    """Means over the steps since the last log line; reading the values is left to that moment.

    Attributes:
        note: the last means in words.
        waited: seconds, of this window, in which there was no batch yet.
    """

    def __init__(self) -> None:
        self.note, self.waited = "", 0.0
        self._reports: list[dict[str, torch.Tensor]] = []
        self._clips, self._started = 0, time.monotonic()

    def add(self, report: LossReport, clips: int) -> None:
        """Takes what a step reported, and its number of clips over all processes."""
        self._reports.append(report.parts)
        self._clips += clips

    def awaiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and counts the time that they are waited for."""
        source = iter(items)
        while True:
            started = time.monotonic()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited += time.monotonic() - started
            yield item

    def close(self) -> dict[str, float]:
        """Returns the means, the clips per second and the share of waiting; begins anew."""
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
