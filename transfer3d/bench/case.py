"""A benchmark case: its description, how to build the comparison, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from transfer3d.bench.memory import peak_bytes
from transfer3d.bench.paired import PAIRS, Run, paired_ratio
from transfer3d.errors import SetupError, UsageError

MIB = 2**20


@runtime_checkable
class MeasuresItself(Protocol):
    """A function that runs in another process."""

    def peak_bytes(self) -> int | None:
        """Returns the peak memory of one call there; None if it is unknown."""
        ...


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two functions that compute the same.

    Attributes:
        ours: transfer3d's implementation.
        baseline: the reference implementation.
        difference: returns norm(ours - baseline) / norm(baseline) of their outputs; None if these need not
            be equal (lower precision).
    """

    ours: Run
    baseline: Run
    difference: Callable[[], float] | None = None


def relative_difference(output: Tensor, expected: Tensor) -> float:
    """Returns norm(output - expected) / norm(expected)."""
    return float((output - expected).norm() / expected.norm())


@dataclass(frozen=True, kw_only=True)
class Case:
    """A comparison that has not been built or measured yet.

    Attributes:
        name: the computation and its size.
        phase: forward, gradients (and forward), step, or command.
        ours: description of transfer3d's implementation.
        baseline: description of the baseline.
        at_least: the ratio expected on a CPU; None for no expectation.
        build: builds the comparison on a device; raises SetupError if the machine cannot run it.
        counts: items that ours and the baseline process per run, by name, to be shown as rates.
    """

    name: str
    phase: str
    ours: str
    baseline: str
    at_least: float | None
    build: Callable[[torch.device], Comparison]
    counts: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])


@dataclass(frozen=True, kw_only=True)
class Result:
    """A measured case: its description, median times, ratio = baseline / ours, its spread, and peak memory.

    `per_second` has the case's counts per second, of ours and of the baseline; `skipped` is the reason why it
    was not measured.
    """

    name: str
    phase: str
    ours: str
    baseline: str
    at_least: float | None
    ours_ms: float | None = None
    baseline_ms: float | None = None
    ratio: float | None = None
    spread: float | None = None
    ours_mib: float | None = None
    baseline_mib: float | None = None
    difference: float | None = None
    per_second: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    skipped: str | None = None


def matching(cases: Iterable[Case], only: str) -> list[Case]:
    """Returns the cases whose name or baseline contains `only`, ignoring case; "" for all."""
    return [case for case in cases if only.lower() in f"{case.name} {case.baseline}".lower()]


def choose_cases(cases: Iterable[Case], only: str) -> list[Case]:
    """Returns the cases that `matching` finds.

    Raises:
        UsageError: there are none.
    """
    every = list(cases)
    if chosen := matching(every, only):
        return chosen
    names = "; ".join(dict.fromkeys(case.name for case in every))
    raise UsageError(f"no case contains '{only}': the cases are {names}.")


def run_cases(cases: Iterable[Case], device: torch.device, *, pairs: int = PAIRS) -> Iterator[Result]:
    """Measures the cases and yields their results in order.

    Args:
        cases: see `Case`.
        device: to run on.
        pairs: see `paired_ratio`.
    """
    for case in cases:
        try:
            yield _measure(case, case.build(device), device, pairs)
        except SetupError as error:
            yield Result(**_description(case), skipped=str(error))


def _description(case: Case) -> dict[str, Any]:
    return {key: getattr(case, key) for key in ("name", "phase", "ours", "baseline", "at_least")}


def _measure(case: Case, comparison: Comparison, device: torch.device, pairs: int) -> Result:
    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    paired = paired_ratio(comparison.ours, comparison.baseline, pairs=pairs, synchronise=synchronise)
    peaks = [
        run.peak_bytes() if isinstance(run, MeasuresItself) else peak_bytes(run, device)
        for run in (comparison.ours, comparison.baseline)
    ]
    return Result(
        **_description(case),
        ours_ms=1000 * paired.ours_s,
        baseline_ms=1000 * paired.baseline_s,
        ratio=paired.ratio,
        spread=paired.spread,
        ours_mib=None if peaks[0] is None else peaks[0] / MIB,
        baseline_mib=None if peaks[1] is None else peaks[1] / MIB,
        difference=None if comparison.difference is None else comparison.difference(),
        per_second={
            name: (ours / paired.ours_s, baseline / paired.baseline_s)
            for name, (ours, baseline) in case.counts.items()
        },
    )
