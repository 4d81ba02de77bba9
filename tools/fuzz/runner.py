"""Tries files by the thousand in a child, and keeps the smallest of each kind that is wrong."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky, HypothesisWarning
from hypothesis.strategies import SearchStrategy

from fuzz.outcome import Outcome, Target

SECONDS = 60.0
"""For one file. One that takes longer is tried once more, alone: a busy machine is not a hang."""
START_SECONDS = 600.0
"""For a child to import what it needs, and to make its examples."""
SLOW_OR_LARGE = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
"""What hypothesis would complain of, and is meant."""
ROUND = 200
"""Files of one seed."""


@dataclass
class Tally:
    """What came of the files of one target.

    Attributes:
        verdicts: how many were read, refused, wrong.
        notes: how many were read with which note.
        faults: kinds of wrong outcomes, each with its smallest file.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, tuple[Outcome, bytes]] = field(default_factory=dict)

    @property
    def tries(self) -> int:
        """How many files."""
        return sum(self.verdicts.values())

    def add(self, outcome: Outcome) -> None:
        """Counts one."""
        self.verdicts[outcome.verdict] += 1
        if outcome.verdict == "read" and outcome.detail:
            self.notes[outcome.detail] += 1


class Worker:
    """A child that tries files, and is replaced when it hangs or dies.

    Args:
        module: of the target.
        place: a folder for its examples.
        seconds: for one file.

    Attributes:
        seconds: see above.
    """

    def __init__(self, module: str, place: Path, *, seconds: float = SECONDS) -> None:
        self._module, self._place, self.seconds = module, place, seconds
        self._target: Target = importlib.import_module(module).Files(place)
        self._process: subprocess.Popen[str] | None = None

    def attempt(self, case: bytes) -> Outcome:
        """Tries one file; where there is no answer, once more in a fresh child."""
        path = self._place / f"case{self._target.suffix}"
        path.write_bytes(case)
        outcome = self._once(path)
        if isinstance(outcome, str):
            outcome = self._once(path)
        return Outcome("wrong", outcome) if isinstance(outcome, str) else outcome

    def _once(self, path: Path) -> Outcome | str:
        """Returns the outcome, or why there is none."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        print(json.dumps(str(path)), file=process.stdin, flush=True)
        answer = self._answer(process, self.seconds)
        if answer is not None:
            return Outcome(**json.loads(answer))
        died = process.poll()
        self.close()
        if died is None:
            return f"hangs: no answer within {self.seconds:g} s"
        return f"died: {signal.Signals(-died).name if died < 0 else f'exit {died}'}"

    def close(self) -> None:
        """Ends the child and all that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", self._module, str(self._place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        if self._answer(process, START_SECONDS) is None:
            raise RuntimeError(f"{self._module}: its child does not start")
        return process

    def _answer(self, process: subprocess.Popen[str], seconds: float) -> str | None:
        """Returns the next line; None where there is none in time."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else ""
        if ready and not line:
            process.wait()
        return line or None


class _Wrong(Exception):  # noqa: N818 - it tells hypothesis to look for a smaller file
    """A file whose outcome is wrong."""


def fuzz(
    target: Target, worker: Worker, *, first_seed: int, seconds: float, rounds: int = sys.maxsize
) -> Tally:
    """Tries files until the time is up; the smallest file of every new fault is in the tally.

    Args:
        target: makes the files.
        worker: tries them.
        first_seed: of the first round of `ROUND` files; each further one has the next.
        seconds: in all.
        rounds: at most so many.
    """
    tally, end = Tally(), time.monotonic() + seconds
    for number in range(rounds):
        with suppress(_Wrong, Flaky):  # flaky: it was wrong, and is not when tried again
            _round(target.cases(), worker, tally, first_seed + number, end)
        if time.monotonic() > end:
            break
    return tally


def _round(cases: SearchStrategy[bytes], worker: Worker, tally: Tally, number: int, end: float) -> None:
    """Tries files until one has a fault that is new, which is then made small."""
    known = set(tally.faults)

    @seed(number)
    @settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=SLOW_OR_LARGE,
        verbosity=Verbosity.quiet,
    )
    @given(cases)
    def attempt(case: bytes) -> None:
        if time.monotonic() > end and set(tally.faults) == known:
            return
        outcome = worker.attempt(case)
        tally.add(outcome)
        if outcome.verdict == "wrong" and outcome.fault not in known:
            tally.faults[outcome.fault] = outcome, case  # the last one that hypothesis tries is the smallest
            raise _Wrong

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # of files that are long as text
        attempt()


def try_all(worker: Worker, cases: Iterable[bytes]) -> Tally:
    """Tries given files."""
    tally = Tally()
    for case in cases:
        outcome = worker.attempt(case)
        tally.add(outcome)
        if outcome.verdict == "wrong":
            tally.faults.setdefault(outcome.fault, (outcome, case))
    return tally


def keep(tally: Tally, folder: Path, suffix: str) -> list[Path]:
    """Writes the file of every fault to a folder of the corpus, and returns their paths."""
    kept = []
    for fault, (_, case) in tally.faults.items():
        name = re.sub(r"[^a-z0-9]+", "-", fault.lower())[:50].strip("-")
        path = folder / f"{name}-{hashlib.sha256(case).hexdigest()[:8]}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case)
        kept.append(path)
    return kept
