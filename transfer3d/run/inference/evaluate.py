"""Tests a checkpoint on a labelled split and writes the report; fuses the scores of several reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from transfer3d.data.source import open_videos
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import lost_processes, make_accelerator, resolve_precision
from transfer3d.errors import UsageError, WeightsError
from transfer3d.evaluation.fusion import fuse_scores
from transfer3d.evaluation.metrics import Labels, video_metrics
from transfer3d.evaluation.protocols import Protocol
from transfer3d.evaluation.scores import Scores, save_scores
from transfer3d.evaluation.scoring import refuse_dropped, score_videos
from transfer3d.files import refuse_unwritable, sha256_file, write_text
from transfer3d.models.checkpoint import load
from transfer3d.run.inference.classifier import refuse_other_channels
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata


class Scored(NamedTuple):
    """Scores, their videos, and what every report of them says of checkpoint, data and views."""

    scores: Scores
    videos: VideoSet
    facts: dict[str, Any]


def evaluate_file(
    file: Path,
    data: str,
    *,
    split: str,
    protocol: Protocol,
    labels: Labels = "auto",
    precision: str,
    workers: int,
    out: Path | None,
    console: Console,
) -> dict[str, Any] | None:
    """Returns the report on the main process, None on the others.

    Args:
        file: checkpoint with a classifier.
        data: labelled videos.
        split: which part of them.
        protocol: the views; see `named_protocol`.
        labels: see `video_metrics`.
        precision: "auto", "bf16" or "fp32".
        workers: decoding processes for each process.
        out: where the report is written as JSON, and the scores beside it; None = nowhere.
        console: for progress.

    Raises:
        UsageError: `out` is a folder, or the student cannot be tested so.
        WeightsError: the checkpoint's classes are not those of the data.
        DataError: a file is bad; an evaluation leaves nothing out.
    """
    _refuse_folder(out)
    if out is not None:
        refuse_unwritable(out)
    scored = score_checkpoint(
        file, data, split=split, protocol=protocol, precision=precision, workers=workers, console=console
    )
    if scored is None:
        return None
    scores, videos, facts = scored
    report = {
        **facts,
        "official": videos.official,
        "expected": len(videos),
        **video_metrics(scores, videos.classes, labels=labels),
    }
    if out is not None:
        save_scores(scores, out, classes=videos.classes, split=split, protocol=protocol.name)
        write_text(out, json.dumps(report, indent=2) + "\n")
    return report


def score_checkpoint(
    file: Path,
    data: str,
    *,
    split: str,
    protocol: Protocol,
    precision: str,
    workers: int,
    console: Console,
) -> Scored | None:
    """Returns the scores of all videos on the main process; None on the others.

    Args and errors are those of `evaluate_file`.
    """
    student, facts = load(file), read_metadata(file)
    refuse_other_channels(student, file)
    videos = open_videos(data, split=split, labelled=True)
    refuse_dropped(videos, data)
    if student.num_classes != len(videos.classes) or (
        facts.class_names and list(facts.class_names) != list(videos.classes)
    ):
        raise WeightsError(
            f"{file} knows {student.num_classes} classes, {data} ({split}) has "
            f"{len(videos.classes)}, or others. Evaluate on the classes that it was trained for."
        )  # fmt: skip
    accelerator = make_accelerator(resolve_precision(precision))
    with lost_processes(accelerator):
        scores = score_videos(student, videos, accelerator, protocol, workers=workers, console=console)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None
    subject = {
        "checkpoint": str(file),
        "checkpoint_sha256": sha256_file(locate(file)),
        "data": data,
        "data_digest": videos.digest,
        "split": split,
        "protocol": protocol.facts(),
    }
    return Scored(scores, videos, subject)


def fuse_reports(
    reports: Sequence[Path], *, weights: Sequence[float] | None, labels: Labels, out: Path | None
) -> dict[str, Any]:
    """Returns the report of several evaluations' mean scores; of one alone, its metrics computed again.

    Args:
        reports: as `evaluate_file` wrote them, with the scores beside them.
        weights: one for each; None = all alike.
        labels: see `video_metrics`.
        out: where the report is written as JSON, and the scores beside it; None = nowhere.

    Raises:
        UsageError: `out` is a folder, there are no scores beside a report, or not one weight for each.
        DataError: the reports are not of the same videos.
    """
    _refuse_folder(out)
    scores, facts = fuse_scores(reports, weights)
    metrics = video_metrics(scores, facts.classes, labels=labels)
    if len(reports) > 1:  # there are no views any more
        metrics = {name: value for name, value in metrics.items() if not name.startswith(("clip_", "views"))}
    report = {
        "fused": [str(path) for path in reports],
        "weights": list(weights or [1.0] * len(reports)),
        "split": facts.split,
        "expected": len(facts.keys),
        **metrics,
    }
    if out is not None:
        save_scores(scores, out, classes=facts.classes, split=facts.split, protocol=facts.protocol)
        write_text(out, json.dumps(report, indent=2) + "\n")
    return report


def _refuse_folder(out: Path | None) -> None:
    if out is not None and out.is_dir():
        raise UsageError(f"{out} is a folder. Name a JSON file with -o.")
