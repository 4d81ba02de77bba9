"""Late fusion: averages the scores of several models, or of one on several modalities (P3D, table 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from transfer3d.errors import DataError, UsageError
from transfer3d.evaluation.scores import ScoreMetadata, Scores, load_scores


def fuse_scores(
    reports: Sequence[Path], weights: Sequence[float] | None = None
) -> tuple[Scores, ScoreMetadata]:
    """Returns the weighted mean of the reports' scores, as one view per video.

    A single report keeps its views, so that its metrics can be recomputed.

    Args:
        reports: evaluation reports of the same videos, with their scores beside them.
        weights: one per report; None = all equal.

    Raises:
        UsageError: a report has no scores, or the number of weights is wrong.
        DataError: the reports are of other videos, labels, classes or splits.
    """
    if weights is not None and (
        len(weights) != len(reports) or min(weights) < 0 or not 0 < sum(weights) < math.inf
    ):
        raise UsageError(
            f"--fuse-weights {list(weights)}: give {len(reports)} numbers, none negative, not all 0."
        )
    loaded = [load_scores(report) for report in reports]
    (first, metadata), others = loaded[0], loaded[1:]
    if not others:
        return first, metadata
    for report, (_, other) in zip(reports[1:], loaded[1:], strict=True):
        _check(reports[0], metadata, report, other)
    shares = torch.tensor(weights or [1.0] * len(reports), dtype=torch.float32)
    shares /= shares.sum()
    videos_NK = torch.zeros_like(first.videos_NK)
    for share, (scores, named) in zip(shares, loaded, strict=True):
        place = {key: row for row, key in enumerate(named.keys)}
        videos_NK += share * scores.videos_NK[[place[key] for key in metadata.keys]]
    fused = Scores(
        metadata.keys, metadata.label_sets, list(videos_NK[:, None]), multi_label=metadata.multi_label
    )
    names = " + ".join(named.protocol for _, named in loaded)
    return fused, metadata.model_copy(update={"protocol": names, "pooling": "mean"})


def _check(first: Path, metadata: ScoreMetadata, report: Path, other: ScoreMetadata) -> None:
    """Raises DataError if two reports are not of the same videos."""
    labels, theirs = (dict(zip(f.keys, f.label_sets, strict=True)) for f in (metadata, other))
    if metadata.split != other.split:
        reason = f"of the splits '{metadata.split}' and '{other.split}'"
    elif metadata.classes != other.classes:
        reason = f"of other classes ({len(metadata.classes)} and {len(other.classes)})"
    elif metadata.multi_label != other.multi_label:
        reason = "one single-label and one multi-label"
    elif labels.keys() != theirs.keys():
        unshared = sorted(labels.keys() ^ theirs.keys())
        reason = f"of other videos: {len(unshared)} are in only one, first {unshared[0]}"
    elif changed := [key for key in labels if labels[key] != theirs[key]]:
        reason = f"of other labels, first at {changed[0]}"
    else:
        return
    raise DataError(f"{first} and {report} are {reason}. Fuse reports of the same videos.")
