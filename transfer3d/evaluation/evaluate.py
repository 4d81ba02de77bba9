"""`transfer3d.evaluate`: scores and metrics of a student on labelled videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import Tensor

from transfer3d.data.relabelled import Relabelled
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import own_processes
from transfer3d.errors import UsageError, WeightsError
from transfer3d.evaluation.metrics import Labels, video_metrics
from transfer3d.evaluation.protocols import Protocol, named_protocol
from transfer3d.evaluation.scores import Scores
from transfer3d.evaluation.scoring import refuse_dropped, score_videos
from transfer3d.models.student import VideoStudent

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class EvaluationResult:
    """The result of evaluating a student on a set of videos.

    Attributes:
        metrics: JSON-able, by name: "video_top1", "video_top5", "mean_ap", "confusion" and others; see
            `transfer3d.evaluation.metrics.video_metrics`.
        view_scores: probabilities of every view of every video.
    """

    metrics: dict[str, Any]
    view_scores: Scores

    @property
    def keys(self) -> Sequence[str]:
        """The key of each video, in the order of the set."""
        return self.view_scores.keys

    @property
    def scores(self) -> Tensor:
        """Class probabilities of each video, float32 [N, K], rows as in `keys`."""
        return self.view_scores.videos_NK


def evaluate(
    student: VideoStudent,
    videos: VideoSet,
    *,
    clips: int = 1,
    crops: int = 1,
    protocol: Protocol | str | None = None,
    labels: Labels = "auto",
    precision: str = "auto",
    accelerator: Accelerator | None = None,
    workers: int = 0,
    console: Console | None = None,
) -> EvaluationResult:
    """Evaluates a student on labelled videos, each once, whatever the number of processes.

    Every process returns the same result.

    Args:
        student: with a classifier; moved to the accelerator's device; its mode is restored.
        videos: labelled with classes of the student, which are matched by name, in any order.
        clips: evenly spaced clips per video, whose probabilities are averaged.
        crops: crops per clip, 1, 3 or 10.
        protocol: a paper's views instead of `clips` and `crops`, by name ("p3d", "t3d", "tsn", "v4d", "f4d",
            "windows", or a peer's: "slowfast-10x3") or as a `Protocol`.
        labels: "single" for top-k, "multi" for hit@k, "auto" = "multi" if any video has several
            labels, or the student is multi-label.
        precision: "auto", "bf16" or "fp32", unless an accelerator is given.
        accelerator: device, precision and processes; None = a new one.
        workers: decoding processes per process; 0 decodes in this one.
        console: for progress; None = no progress.

    Returns:
        Metrics, and the scores that they are computed from.

    Raises:
        UsageError: the student does not support the views, or there is no such protocol.
        WeightsError: the student has no class names, and a different number of classes than the videos.
        DataError: a video cannot be decoded, was left out of the set, has no label, or an unknown class.
        SetupError: a single view does not fit into memory.
        NonFiniteError: a score is NaN.
    """
    if protocol is None:
        protocol = named_protocol("dense", clips=clips, crops=crops)
    elif (clips, crops) != (1, 1):
        raise UsageError("a protocol has its own clips and crops. Give either these or a protocol.")
    elif isinstance(protocol, str):
        protocol = named_protocol(protocol)
    refuse_dropped(videos)
    videos = with_student_classes(student, videos)
    with own_processes(accelerator, precision) as processes:
        scores = score_videos(student, videos, processes, protocol, workers=workers, console=console)
    return EvaluationResult(video_metrics(scores, videos.classes, labels=labels), scores)


def with_student_classes(student: VideoStudent, videos: VideoSet) -> VideoSet:
    """Returns the videos with labels that index the student's classes, matched by name.

    Those of a student without class names are in the order of the videos' names, or of their numbers if they
    are numbers: 2 before 10.

    Raises:
        WeightsError: the student has no class names, and a different number of classes than the videos.
        DataError: a video has a class that the student does not have.
    """
    if student.class_names is not None:
        same = list(student.class_names) == list(videos.classes)
        return videos if same else Relabelled(videos, student.class_names)
    if student.num_classes != len(videos.classes):
        raise WeightsError(
            f"{student.model_name} has {student.num_classes} unnamed classes, the videos have "
            f"{len(videos.classes)}. Evaluate on the classes that it was trained for."
        )
    if all(map(str.isdecimal, videos.classes)):
        by_number = sorted(videos.classes, key=int)
        return videos if by_number == list(videos.classes) else Relabelled(videos, by_number)
    return videos
