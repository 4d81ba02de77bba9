"""Progress of long work: a rich bar with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

PLAIN_EVERY_S = 10.0


class Meter:
    """One running task; `update` advances it and sets the text after the bar."""

    def __init__(
        self, console: Console, title: str, total: int, bar: Progress | None, start: int = 0
    ) -> None:
        self._console, self._title, self._total, self._bar = console, title, total, bar
        self._task = bar.add_task(title, total=total, completed=start, note="") if bar else None
        self._done = start
        self._started = self._printed = time.monotonic()
        self._first: tuple[float, int] | None = None

    def update(self, advance: int = 1, note: str = "") -> None:
        """Advances by `advance`; on a plain console prints a line every ten seconds and at the end."""
        self._done += advance
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, note=note)
            return
        now = time.monotonic()
        if self._first is None:
            self._first = now, self._done
        if now - self._printed < PLAIN_EVERY_S and self._done < self._total:
            return
        self._printed = now
        line = f"{self._title}: {self._done}/{self._total}{self._time_left(now)} {note}".rstrip()
        self._console.print(line, highlight=False)

    def _time_left(self, now: float) -> str:
        """Returns the remaining time, by the rate since the first update (before it, workers start up)."""
        if self._done >= self._total:
            return f", {now - self._started:.0f} s"
        since, done = self._first or (now, self._done)
        if self._done == done:
            return ""
        return f", {(now - since) / (self._done - done) * (self._total - self._done):.0f} s left"


@contextmanager
def progress(
    title: str, total: int, *, console: Console, quiet: bool = False, start: int = 0
) -> Iterator[Meter]:
    """Shows the progress of `total` steps, `start` of which are already done.

    `quiet` (every process but the main one) shows nothing.
    """
    if quiet:
        yield Meter(Console(quiet=True), title, total, None, start)
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console) as bar:
            yield Meter(console, title, total, bar, start)
    else:
        yield Meter(console, title, total, None, start)


def track(
    items: Iterable[T], title: str, total: int, *, console: Console, quiet: bool = False
) -> Iterator[T]:
    """Yields `items` under a progress display."""
    with progress(title, total, console=console, quiet=quiet) as meter:
        for item in items:
            yield item
            meter.update()
