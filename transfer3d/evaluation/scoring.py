"""Scores every video of a set with a student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from torch import Tensor

from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError
from transfer3d.evaluation.inference import gather_outputs, infer_videos
from transfer3d.evaluation.protocols import CENTRE, Protocol, check_protocol
from transfer3d.evaluation.scores import Scores
from transfer3d.models.combinations import combination_scores
from transfer3d.models.student import VideoStudent

if TYPE_CHECKING:
    from accelerate import Accelerator


def refuse_dropped(videos: VideoSet, data: str = "the data") -> None:
    """Raises DataError if bad files were left out of a set, since an evaluation must not skip videos."""
    if videos.dropped:
        first = videos.dropped[0]
        raise DataError(
            f"{len(videos.dropped)} bad files in {data}, the first is {first.path}: {first.reason}. "
            "An evaluation must not skip videos: repair or remove them."
        )


def score_videos(
    student: VideoStudent,
    videos: VideoSet,
    accelerator: Accelerator,
    protocol: Protocol = CENTRE,
    *,
    clips_per_step: int | None = None,
    workers: int = 0,
    console: Console | None = None,
) -> Scores:
    """Scores every video once, whatever the number of processes; every process returns all scores.

    Args:
        student: run in eval mode; its mode is restored afterwards.
        videos: labelled or not.
        accelerator: device, precision, processes.
        protocol: the views; by default the clip at each video's centre.
        clips_per_step: clips in one forward pass, halved whenever memory runs out; None = by their size.
        workers: decoding processes.
        console: for progress; None = no progress.

    Raises:
        DataError: a video cannot be decoded.
        UsageError: the student does not support the protocol.
        SetupError: a single view does not fit into memory.
        NonFiniteError: a score is NaN.
    """
    check_protocol(protocol, student)
    by_combination = protocol.combinations and student.clip.units > 1

    def probabilities(clips_u8: Tensor, most: int) -> Tensor:
        if by_combination:
            return combination_scores(student, student.normalise(clips_u8), chunk=most)
        return student.probabilities(student(clips_u8).float())

    outputs = infer_videos(
        student,
        videos,
        probabilities,
        accelerator,
        title="evaluating",
        clip=protocol.clip_for(student.clip),
        plan=protocol.plan,
        divisible=by_combination,
        clips_per_step=clips_per_step,
        workers=workers,
        console=console,
    )
    _, views, scales = zip(*gather_outputs(outputs, videos, accelerator), strict=True)
    return Scores(
        list(videos.keys),
        list(videos.label_sets),
        list(views),
        list(scales),
        protocol.pooling,
        multi_label=student.multi_label,
    )
