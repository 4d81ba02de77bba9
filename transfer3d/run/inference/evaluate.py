"""Evaluates a checkpoint on a labelled split and writes the report; fuses the scores of several reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.data.videoset import VideoSet
from transfer3d.evaluation.evaluate import evaluate, with_student_classes
from transfer3d.evaluation.fusion import fuse_scores
from transfer3d.evaluation.metrics import Labels, video_metrics
from transfer3d.evaluation.protocols import Protocol
from transfer3d.evaluation.scores import save_scores
from transfer3d.files import write_text
from transfer3d.run.inference.session import InferenceSession, inference_session
from transfer3d.run.output_file import refuse_folder


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
        split: split of the data.
        protocol: the views; see `named_protocol`.
        labels: see `video_metrics`.
        precision: "auto", "bf16" or "fp32".
        workers: decoding processes per process.
        out: JSON file for the report; the scores are written beside it; None = no file.
        console: for progress.

    Raises:
        UsageError: `out` is a folder, or the student does not support the protocol.
        WeightsError: the checkpoint's classes are not those of the data.
        DataError: a file is bad; an evaluation skips no video.
    """
    if out is not None:
        refuse_folder(out, "a JSON file")
    with inference_session(file, precision=precision, console=console) as session:
        videos = with_student_classes(session.student, session.open_videos(data, split))
        result = evaluate(
            session.student,
            videos,
            protocol=protocol,
            labels=labels,
            accelerator=session.accelerator,
            workers=workers,
            console=console,
        )
    if not session.is_main:
        return None
    report = {
        **report_header(session, data, videos, split, protocol),
        "official": videos.official,
        "expected": len(videos),
        **result.metrics,
    }
    if out is not None:
        save_scores(result.view_scores, out, classes=videos.classes, split=split, protocol=protocol.name)
        write_text(out, json.dumps(report, indent=2) + "\n")
    return report


def report_header(
    session: InferenceSession, data: str, videos: VideoSet, split: str, protocol: Protocol
) -> dict[str, Any]:
    """Returns the first entries of a report: checkpoint, videos and views."""
    return {
        "checkpoint": str(session.file),
        "checkpoint_sha256": session.digest,
        "data": data,
        "data_digest": videos.digest,
        "split": split,
        "protocol": protocol.to_dict(),
    }


def fuse_reports(
    reports: Sequence[Path], *, weights: Sequence[float] | None, labels: Labels, out: Path | None
) -> dict[str, Any]:
    """Returns the report of several evaluations' averaged scores; for one report, recomputes its metrics.

    Args:
        reports: written by `evaluate_file`, with the scores beside them.
        weights: one per report; None = all equal.
        labels: see `video_metrics`.
        out: JSON file for the report; the scores are written beside it; None = no file.

    Raises:
        UsageError: `out` is a folder, a report has no scores beside it, or the number of weights is wrong.
        DataError: the reports are not of the same videos.
    """
    if out is not None:
        refuse_folder(out, "a JSON file")
    scores, metadata = fuse_scores(reports, weights)
    metrics = video_metrics(scores, metadata.classes, labels=labels)
    if len(reports) > 1:  # the views of several models do not correspond
        metrics = {name: value for name, value in metrics.items() if not name.startswith(("clip_", "views"))}
    report = {
        "fused": [str(path) for path in reports],
        "weights": list(weights or [1.0] * len(reports)),
        "split": metadata.split,
        "expected": len(metadata.keys),
        **metrics,
    }
    if out is not None:
        save_scores(scores, out, classes=metadata.classes, split=metadata.split, protocol=metadata.protocol)
        write_text(out, json.dumps(report, indent=2) + "\n")
    return report
