"""A batch that is computed part by part, to save memory, and reported as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from transfer3d.batch import ClipBatch
from transfer3d.objectives.objective import LossReport


def parts_of(batch: ClipBatch, count: int) -> list[ClipBatch]:
    """Returns a batch in `count` parts of equal size; the batch itself where that is 1.

    Raises:
        ValueError: the clips do not divide by `count`.
    """
    if count == 1:
        return [batch]
    size, rest = divmod(len(batch.keys), count)
    if rest:
        raise ValueError(f"{len(batch.keys)} clips do not divide by {count}")
    slices = [slice(start, start + size) for start in range(0, len(batch.keys), size)]
    return [
        replace(
            batch,
            clips=batch.clips[part],
            labels=batch.labels[part],
            keys=batch.keys[part],
            sources=batch.sources[part],
            targets=None if batch.targets is None else batch.targets[part],
        )
        for part in slices
    ]


def mean_report(reports: Sequence[LossReport]) -> LossReport:
    """Returns the means of what the parts of one batch reported; one report as it is."""
    if len(reports) == 1:
        return reports[0]
    names = dict.fromkeys(name for report in reports for name in report.parts)
    parts = {
        name: torch.stack([report.parts[name] for report in reports if name in report.parts]).mean()
        for name in names
    }
    return LossReport(torch.stack([report.total.detach() for report in reports]).mean(), parts)
