"""The weight report of an inflation or an import: the source and the target of every tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from transfer3d.errors import WeightsError

CONTAINERS = ("blocks", "stages", "layers", "transitions")
"""Modules whose children are numbered stages, as in `trunk.blocks.2`."""
How = Literal["inflated", "copied", "reshaped", "resampled", "fresh", "dropped"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The origin of one tensor.

    Attributes:
        target: the student's tensor; None if it is dropped.
        source: the tensor it was computed from; None if it is fresh.
        how: inflated (a kernel got temporal taps), copied, reshaped (same values with an extra axis of 1),
            resampled (positions, for another image size), fresh (no 2D counterpart), dropped (no counterpart
            in the student).
        note: the value of a fresh tensor, or which rows were taken.
    """

    target: str | None
    source: str | None
    how: How
    note: str = ""


@dataclass(frozen=True)
class WeightReport:
    """One row per tensor; created by `check_complete`, so no tensor is missing."""

    rows: tuple[Row, ...]

    def counts(self) -> dict[str, int]:
        """Returns the number of tensors for each `How`."""
        counter = Counter(row.how for row in self.rows)
        return {how: counter[how] for how in get_args(How)}

    def to_list(self) -> list[dict[str, Any]]:
        """Returns every row in JSON form."""
        return [asdict(row) for row in self.rows]

    def lines(self, *, tensors: bool) -> list[str]:
        """Returns lines of text: one per tensor, or per stage, and the totals."""
        rows = self._tensor_lines() if tensors else self._stage_lines()
        return [*rows, f"{len(self.rows)} tensors: {_totals(self.counts())}"]

    def _tensor_lines(self) -> list[str]:
        notes = [f"  ({row.note})" if row.note else "" for row in self.rows]
        return [
            f"  {row.how:<9} {row.source or '-':<40} -> {row.target or '-'}{note}"
            for row, note in zip(self.rows, notes, strict=True)
        ]

    def _stage_lines(self) -> list[str]:
        stages: dict[str, Counter[str]] = {}
        for row in self.rows:
            stages.setdefault(_stage_of(row), Counter())[row.how] += 1
        width = max(map(len, stages))
        return [f"  {stage:<{width}}  {_totals(counts)}" for stage, counts in stages.items()]


def _stage_of(row: Row) -> str:
    """Returns the part of the student that a tensor belongs to, such as `res2`, `blocks.3` or `head`."""
    if row.target is None:
        return "left out"
    first, *rest = row.target.removeprefix("trunk.").removeprefix("net.").split(".")
    return f"{first}.{rest[0]}" if first in CONTAINERS and rest else first


def _totals(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[how]} {how}" for how in get_args(How) if counts.get(how))


def check_complete(
    rows: Iterable[Row], *, targets: Collection[str], sources: Collection[str], fresh: str, dropped: str
) -> WeightReport:
    """Returns the report of these rows, if they account for every tensor exactly once.

    Args:
        rows: one for each tensor.
        targets: names of all tensors of the student.
        sources: names of all tensors of the source network.
        fresh: pattern of the student's tensors that may have no source.
        dropped: pattern of the source's tensors that may have no target.

    Raises:
        WeightsError: a tensor is missing, appears twice, or is fresh or dropped without matching its pattern.
    """
    rows = tuple(rows)
    written = Counter(row.target for row in rows if row.target is not None)
    faults = {
        "of the student are not filled": [name for name in targets if name not in written],
        "of the student are filled twice": [name for name, times in written.items() if times > 1],
        "are not the student's": [name for name in written if name not in targets],
        "of the source network are not used": sorted(set(sources) - {row.source for row in rows}),
        "of the student were left fresh unexpectedly": [
            row.target for row in rows if row.how == "fresh" and not re.fullmatch(fresh, row.target or "")
        ],
        "of the source network were dropped unexpectedly": [
            row.source for row in rows if row.how == "dropped" and not re.fullmatch(dropped, row.source or "")
        ],
    }
    messages = [
        f"{len(names)} {what} ({', '.join(map(str, names[:5]))})" for what, names in faults.items() if names
    ]
    if messages:
        raise WeightsError(f"the weight report is incomplete: {'; '.join(messages)}.")
    return WeightReport(rows)
