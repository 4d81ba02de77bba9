"""Tests a checkpoint on a labelled split and writes the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.data.source import open_videos
from transfer3d.engine.distributed import make_accelerator
from transfer3d.errors import UsageError, WeightsError
from transfer3d.evaluate.metrics import video_metrics
from transfer3d.evaluate.protocol import ViewPlan, refuse_dropped, score_videos
from transfer3d.files import sha256_file, write_text
from transfer3d.models.checkpoint import load, read_metadata
from transfer3d.run.session import resolve_precision


def evaluate_file(
    file: Path,
    data: str,
    *,
    split: str,
    clips: int,
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
        clips: clips spread evenly over a video, scores averaged.
        precision: "auto", "bf16" or "fp32".
        workers: decoding processes for each process.
        out: where the report is written as JSON; None = nowhere.
        console: for progress.

    Raises:
        UsageError: `out` is a folder.
        WeightsError: the checkpoint's classes are not those of the data.
        DataError: a file is bad; an evaluation leaves nothing out.
    """
    if out is not None and out.is_dir():
        raise UsageError("E218", f"{out} is a folder. Name a JSON file with -o.")
    student, facts = load(file), read_metadata(file)
    videos = open_videos(data, split=split, labelled=True)
    refuse_dropped(videos, data)
    if student.num_classes != len(videos.classes) or (
        facts.class_names and list(facts.class_names) != list(videos.classes)
    ):
        raise WeightsError(
            "E430", f"{file} knows {student.num_classes} classes, {data} ({split}) has "
            f"{len(videos.classes)}, or others. Evaluate on the classes that it was trained for."
        )  # fmt: skip
    accelerator = make_accelerator(resolve_precision(precision))
    plan = ViewPlan(clips=clips)
    scores = score_videos(student, videos, accelerator, plan, workers=workers, console=console)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None
    report = {
        "checkpoint": str(file),
        "checkpoint_sha256": sha256_file(file),
        "data": data,
        "data_digest": videos.digest,
        "split": split,
        "expected": len(videos),
        **video_metrics(scores, videos.classes),
    }
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")
    return report
