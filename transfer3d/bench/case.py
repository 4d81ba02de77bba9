"""One comparison: what is compared with what, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from transfer3d.bench.memory import peak_bytes
from transfer3d.bench.paired import PAIRS, Run, paired_ratio
from transfer3d.bench.subprocess_runner import SubprocessRunner
from transfer3d.errors import SetupError, UsageError

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two functions that compute the same.

    Attributes:
        ours: what transfer3d does.
        baseline: what it is compared with.
        difference: norm(ours - baseline) / norm(baseline) of their answers; None where they are not to be
            equal (lower precision).
    """

    ours: Run
    baseline: Run
    difference: Callable[[], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A comparison that has not been made.

    Attributes:
        name: what is computed, and its size.
        phase: forward, gradients (and forward), or step.
        ours: how, here.
        baseline: how, there.
        at_least: the ratio that it should have on a CPU; None for none.
        build: makes the comparison on a device; raises SetupError where the machine cannot do it.
        counts: what ours and the baseline work through in one run, by name, to be shown by time.
    """

    name: str
    phase: str
    ours: str
    baseline: str
    at_least: float | None
    build: Callable[[torch.device], Comparison]
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes: the case's, medians, ratio = baseline / ours, peak memory, and why it was skipped.

    `per_second` has the case's counts by time, of ours and of the baseline.
    """

    name: str
    phase: str
    ours: str
    baseline: str
    at_least: float | None
    ours_ms: float | None = None
    baseline_ms: float | None = None
    ratio: float | None = None
    ours_mib: float | None = None
    baseline_mib: float | None = None
    difference: float | None = None
    per_second: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    skipped: str | None = None


def matching(cases: Iterable[Case], only: str) -> list[Case]:
    """Returns the cases whose name or baseline contains `only`, in any case; "" takes all."""
    return [case for case in cases if only.lower() in f"{case.name} {case.baseline}".lower()]


def no_case(only: str, cases: Iterable[Case]) -> UsageError:
    """Returns the answer to a name that no case has."""
    names = "; ".join(dict.fromkeys(case.name for case in cases))
    return UsageError(f"no case contains '{only}': they are {names}.")


def run_cases(cases: Iterable[Case], device: torch.device, *, pairs: int = PAIRS) -> Iterator[Result]:
    """Yields a result for every case, in order.

    Args:
        cases: see `Case`.
        device: to run on.
        pairs: see `paired_ratio`.
    """
    for case in cases:
        try:
            yield _measure(case, case.build(device), device, pairs)
        except SetupError as error:
            yield Result(**_facts(case), skipped=str(error))


def _facts(case: Case) -> dict[str, Any]:
    return {key: getattr(case, key) for key in ("name", "phase", "ours", "baseline", "at_least")}


def _measure(case: Case, comparison: Comparison, device: torch.device, pairs: int) -> Result:
    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    paired = paired_ratio(comparison.ours, comparison.baseline, pairs=pairs, synchronise=synchronise)
    taken = [
        run.peak_bytes() if isinstance(run, SubprocessRunner) else peak_bytes(run, device)
        for run in (comparison.ours, comparison.baseline)
    ]
    return Result(
        **_facts(case),
        ours_ms=1000 * paired.ours_s,
        baseline_ms=1000 * paired.baseline_s,
        ratio=paired.ratio,
        ours_mib=None if taken[0] is None else taken[0] / MIB,
        baseline_mib=None if taken[1] is None else taken[1] / MIB,
        difference=None if comparison.difference is None else comparison.difference(),
        per_second={
            name: (ours / paired.ours_s, baseline / paired.baseline_s)
            for name, (ours, baseline) in case.counts.items()
        },
    )
