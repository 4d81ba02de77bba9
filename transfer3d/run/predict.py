"""Top classes for videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.data.source import open_files
from transfer3d.engine.distributed import make_accelerator
from transfer3d.errors import WeightsError
from transfer3d.evaluate.protocols import named_protocol
from transfer3d.evaluate.scoring import score_videos
from transfer3d.models.checkpoint import load, read_metadata
from transfer3d.run.session import resolve_precision


def predict_videos(
    file: Path, videos: Sequence[Path], *, top: int, clips: int, precision: str, console: Console
) -> list[dict[str, Any]]:
    """Returns one row for each video: its path and its best classes with their probabilities.

    Args:
        file: checkpoint with a classifier.
        videos: files, or folders of them.
        top: how many classes for each video.
        clips: clips spread evenly over a video, scores averaged.
        precision: "auto", "bf16" or "fp32".
        console: for progress, and for the names of files that were left out.

    Raises:
        WeightsError: the checkpoint has no classifier.
        DataError: none of the files is a video.
    """
    student = load(file)
    if student.num_classes == 0:
        raise WeightsError("E431", f"{file} has no classifier. Train one with `transfer3d finetune {file}`.")
    names = read_metadata(file).class_names or [f"class {k}" for k in range(student.num_classes)]
    source = open_files(videos)
    for dropped in source.dropped:
        console.print(f"left out {dropped.path}: {dropped.reason}", highlight=False)
    accelerator = make_accelerator(resolve_precision(precision))
    protocol = named_protocol("dense", clips=clips)
    scores = score_videos(student, source, accelerator, protocol, console=console)
    accelerator.end_training()
    rows = []
    for path, scores_K in zip(source.keys, scores.videos_NK, strict=True):
        best = scores_K.topk(min(top, len(names)))
        guesses = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        rows.append({"video": path, "top": [{"class": names[k], "score": score} for k, score in guesses]})
    return rows
