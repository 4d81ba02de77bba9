"""Predicts the top classes of videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.evaluation.predict import predict_videos
from transfer3d.run.inference.session import inference_session


def predict_files(
    file: Path, videos: Sequence[Path], *, top: int, clips: int, precision: str, console: Console
) -> list[dict[str, Any]]:
    """Returns one row for each video: its path and its best classes with their probabilities.

    Args:
        file: checkpoint with a classifier.
        videos: files, or folders of them.
        top: number of classes per video.
        clips: number of clips per video, evenly spaced, whose scores are averaged.
        precision: "auto", "bf16" or "fp32".
        console: for progress, and for the names of skipped files.

    Raises:
        WeightsError: the checkpoint has no classifier.
        UsageError: the student does not take RGB.
        DataError: none of the files is a video.
    """
    with inference_session(file, videos, precision=precision, console=console) as session:
        predictions = predict_videos(
            session.student,
            session.open_files(videos),
            session.accelerator,
            top=top,
            clips=clips,
            console=console,
        )
    return [{"video": str(p.path), "top": class_rows(p.classes, p.probabilities)} for p in predictions]


def class_rows(classes: Sequence[str], probabilities: Sequence[float]) -> list[dict[str, Any]]:
    """Returns `{"class": ..., "score": ...}` for each class."""
    return [{"class": name, "score": score} for name, score in zip(classes, probabilities, strict=True)]
