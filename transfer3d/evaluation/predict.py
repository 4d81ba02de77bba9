"""`transfer3d.predict`: the most probable classes of video files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from torch import Tensor

from transfer3d.data.source import open_files
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import own_processes
from transfer3d.errors import UsageError
from transfer3d.evaluation.protocols import named_protocol
from transfer3d.evaluation.scoring import score_videos
from transfer3d.models.student import VideoStudent

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoPrediction:
    """The most probable classes of one video.

    Attributes:
        path: path of the file.
        classes: names, the most probable first; `class 0`, `class 1` and so on if the student has no names.
        probabilities: probabilities of these classes, 0..1.
    """

    path: Path
    classes: list[str]
    probabilities: list[float]


def predict(
    student: VideoStudent,
    files: Sequence[str | Path],
    *,
    top: int = 5,
    clips: int = 3,
    precision: str = "auto",
    accelerator: Accelerator | None = None,
    workers: int = 0,
    console: Console | None = None,
) -> list[VideoPrediction]:
    """Predicts the most probable classes of each video.

    Several processes share the videos, and every process returns all predictions.

    Args:
        student: with a classifier; moved to the accelerator's device; its mode is restored.
        files: video files, or folders of them; files that cannot be decoded are skipped with a warning.
        top: number of classes per video.
        clips: evenly spaced clips per video, whose probabilities are averaged.
        precision: "auto", "bf16" or "fp32", unless an accelerator is given.
        accelerator: device, precision and processes; None = a new one.
        workers: decoding processes per process; 0 decodes in this one.
        console: for progress; None = no progress.

    Returns:
        One prediction for each video, in the order of `files`.

    Raises:
        UsageError: a file does not exist, the student has no classifier, or only one of files and student is
            for optical flow.
        DataError: none of the files is a video.
        SetupError: a single clip does not fit into memory.
        NonFiniteError: a score is NaN.
    """
    videos = open_files(files)
    for dropped in videos.dropped:
        logger.warning("left out %s: %s", dropped.path, dropped.reason)
    with own_processes(accelerator, precision) as processes:
        return predict_videos(
            student, videos, processes, top=top, clips=clips, workers=workers, console=console
        )


def predict_videos(
    student: VideoStudent,
    videos: VideoSet,
    accelerator: Accelerator,
    *,
    top: int,
    clips: int,
    workers: int = 0,
    console: Console | None = None,
) -> list[VideoPrediction]:
    """Predicts the most probable classes of each video in a set whose keys are paths; see `predict`."""
    if student.num_classes == 0:
        raise UsageError("the student has no classifier. Train one with `transfer3d finetune`.")
    protocol, names = named_protocol("dense", clips=clips), class_names(student)
    scores = score_videos(student, videos, accelerator, protocol, workers=workers, console=console)
    return [
        VideoPrediction(Path(key), *best_classes(scores_K, names, top))
        for key, scores_K in zip(videos.keys, scores.videos_NK, strict=True)
    ]


def class_names(student: VideoStudent) -> list[str]:
    """Returns the names of a student's classes; `class 0`, `class 1` and so on if it has none."""
    return list(student.class_names or (f"class {number}" for number in range(student.num_classes)))


def best_classes(scores_K: Tensor, names: Sequence[str], top: int) -> tuple[list[str], list[float]]:
    """Returns the `top` most probable classes and their probabilities, the best first."""
    best = scores_K.topk(min(top, len(names)))
    return [names[int(k)] for k in best.indices], best.values.tolist()
