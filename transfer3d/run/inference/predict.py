"""Top classes for videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from transfer3d.engine.distributed import lost_processes, make_accelerator, resolve_precision
from transfer3d.evaluation.protocols import named_protocol
from transfer3d.evaluation.scoring import score_videos
from transfer3d.run.inference.classifier import load_classifier, open_and_name_dropped


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
        UsageError: the student does not see RGB.
        DataError: none of the files is a video.
    """
    classifier = load_classifier(file)
    accelerator = make_accelerator(resolve_precision(precision))
    source = open_and_name_dropped(videos, console)
    protocol = named_protocol("dense", clips=clips)
    with lost_processes(accelerator):
        scores = score_videos(classifier.student, source, accelerator, protocol, console=console)
    accelerator.end_training()
    return [
        {"video": path, "top": best_classes(scores_K, classifier.classes, top)}
        for path, scores_K in zip(source.keys, scores.videos_NK, strict=True)
    ]


def best_classes(scores_K: Tensor, names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """Returns the most probable classes, the best first: `{"class": ..., "score": ...}`."""
    best = scores_K.topk(min(top, len(names)))
    return [
        {"class": names[k], "score": score}
        for k, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
