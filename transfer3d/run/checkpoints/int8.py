"""Chooses the clips to calibrate int8 on and those to evaluate it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from transfer3d.data.pipeline import view_batches
from transfer3d.data.source import open_videos
from transfer3d.data.subset import Subset
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import NoSuchSplit, UsageError
from transfer3d.evaluation.evaluate import with_student_classes
from transfer3d.export.openvino import openvino_runner, write_openvino
from transfer3d.export.quantisation import QuantisationLoss, quantisation_loss
from transfer3d.models.student import VideoStudent

CALIBRATION_CLIPS = 300
"""Calibration clips, as NNCF advises."""
TESTED_CLIPS = 1000
BATCH = 4


def write_int8(student: VideoStudent, path: Path, metadata: dict[str, str], data: str) -> QuantisationLoss:
    """Writes a student for OpenVINO in int8, and returns the quantisation loss.

    It is calibrated on the centre clips of up to 300 videos of the split `train`, and evaluated on up to 1000
    of `test`, else of `val`. Data without these splits are used for both.

    Args:
        student: with a classifier.
        path: path of the graph, which ends in `.xml`.
        metadata: see `write_openvino`.
        data: videos, labelled or not; see `open_videos`.

    Raises:
        UsageError: no such data, or a student without a classifier.
        WeightsError: the fp32 graph's outputs differ from the student's.
        DataError: a video cannot be decoded, or is of a class that the student does not have.
        SetupError: the `openvino` extra is not installed.
    """
    if not student.num_classes:
        raise UsageError("int8 is evaluated by predicted classes: export a student that has a classifier.")
    calibration, tested, held_out = _splits(student, data)
    clips = [clip for batch, _ in _clips(student, calibration) for clip in batch.split(1)]
    write_openvino(student, path, metadata, calibration=clips)
    return quantisation_loss(
        student,
        openvino_runner(path),
        _clips(student, tested),
        calibration_clips=len(clips),
        held_out=held_out,
    )


def _splits(student: VideoStudent, data: str) -> tuple[VideoSet, VideoSet, bool]:
    """Returns the videos for calibration, those for evaluation, and whether the two differ."""
    train = _evenly_spaced(open_videos(data, split="train"), CALIBRATION_CLIPS)
    for split in ("test", "val"):
        try:
            tested = open_videos(data, split=split)
        except NoSuchSplit:
            continue
        return train, _evenly_spaced(_labelled(student, tested), TESTED_CLIPS), True
    return train, _labelled(student, train), False


def _labelled(student: VideoStudent, videos: VideoSet) -> VideoSet:
    return with_student_classes(student, videos) if videos.classes else videos


def _evenly_spaced(videos: VideoSet, most: int) -> VideoSet:
    """Returns at most `most` videos, evenly spaced."""
    if len(videos) <= most:
        return videos
    return Subset(videos, np.linspace(0, len(videos) - 1, most).round().astype(int).tolist())


def _clips(student: VideoStudent, videos: VideoSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields normalised centre clips and their labels, in batches."""
    for batch in view_batches(videos, student.clip, batch_size=BATCH):
        yield student.normalise(batch.clips), batch.labels
