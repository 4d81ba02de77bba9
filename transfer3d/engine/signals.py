"""Records SIGTERM, Ctrl-C and the death of the launcher, so that a run can stop after the current step."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any, Self

from transfer3d.engine.launcher import launcher_pid
from transfer3d.errors import Interrupted, Preempted

log = logging.getLogger(__name__)


class StopSignals:
    """A context in which SIGTERM and SIGINT do not end the process.

    Attributes:
        received: number of the last signal; 0 = none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}
        self._launcher = launcher_pid()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread can handle signals
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.received = number

    def stop_requested(self) -> bool:
        """Whether a signal was received, or the launcher, which would forward it, has died."""
        if not self.received and self._launcher not in (None, os.getppid()):
            log.warning("the launcher (pid %d) has died: the run saves this step and ends", self._launcher)
            self.received = signal.SIGTERM
        return self.received != 0

    def error(self, where: str) -> Preempted | Interrupted:
        """Returns the exception that the run ends with; `where` is e.g. "step 5 of 8"."""
        kind = Interrupted if self.received == signal.SIGINT else Preempted
        return kind(f"stopped at {where}, which is saved. Continue with the same command and --resume.")
