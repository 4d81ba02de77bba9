"""The inference loop: every video of a set is decoded once, by one process, and mapped to vectors.

Evaluation, features and predictions differ only in the function from clips to vectors that they pass in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from transfer3d.data.batch import ViewBatch
from transfer3d.data.pipeline import view_batches
from transfer3d.data.subset import Subset
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan
from transfer3d.engine.distributed import gather_list
from transfer3d.evaluation.micro_batches import CENTRE_CLIP, Compute, MicroBatches
from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent
from transfer3d.nn.memory_format import channels_last
from transfer3d.progress import progress

if TYPE_CHECKING:
    from accelerate import Accelerator


class VideoOutput(NamedTuple):
    """What a student computed for one video: float32 vectors of its views [V, D], and their scales [V]."""

    key: str
    vectors_VD: Tensor
    scale_V: Tensor


def decoded_videos(
    videos: VideoSet,
    clip: ClipSpec,
    accelerator: Accelerator,
    *,
    title: str,
    plan: ViewPlan = CENTRE_CLIP,
    skip: Collection[str] = (),
    batch_size: int = 1,
    workers: int = 0,
    console: Console | None = None,
) -> Iterator[ViewBatch]:
    """Yields this process's share of the videos, decoded, and shows progress.

    Args:
        videos: to decode; each is decoded by exactly one process.
        clip: the student's input.
        accelerator: the processes.
        title: title of the progress display.
        plan: the views of each video.
        skip: keys of videos that are already done.
        batch_size: videos in a batch.
        workers: decoding processes.
        console: for progress on the main process; None = no progress.

    Raises:
        DataError: a video cannot be decoded.
    """
    remaining = [index for index, key in enumerate(videos.keys) if key not in skip]
    world = min(accelerator.num_processes, len(remaining))
    if accelerator.process_index >= world:
        return
    batches = view_batches(
        Subset(videos, remaining) if skip else videos,
        clip,
        plan=plan,
        batch_size=batch_size,
        rank=accelerator.process_index,
        world=world,
        workers=workers,
    )
    quiet = console is None or not accelerator.is_main_process
    total, left = -(-len(videos) // world), -(-len(remaining) // world)
    with progress(title, total, console=console or Console(), quiet=quiet, start=total - left) as meter:
        for batch in batches:
            yield batch
            meter.update(len(set(batch.keys)))


@torch.no_grad()
def infer_videos(
    student: VideoStudent,
    videos: VideoSet,
    compute: Compute,
    accelerator: Accelerator,
    *,
    title: str,
    clip: ClipSpec | None = None,
    plan: ViewPlan = CENTRE_CLIP,
    skip: Collection[str] = (),
    divisible: bool = False,
    clips_per_step: int | None = None,
    workers: int = 0,
    console: Console | None = None,
) -> Iterator[VideoOutput]:
    """Yields the output of `compute` for each video in this process's share.

    Args:
        student: moved to the accelerator's device; in eval mode until the loop ends.
        videos: each is decoded once, by exactly one process.
        compute: runs the student, under `no_grad` and the accelerator's autocast.
        accelerator: device, precision, processes.
        title: title of the progress display.
        clip: shape of the views; None = the student's own.
        plan: the views of each video.
        skip: keys of videos that are already done.
        divisible: see `MicroBatches`.
        clips_per_step: clips in one forward pass, halved whenever memory runs out; None = by their size.
        workers: decoding processes.
        console: for progress; None = no progress.

    Raises:
        DataError: a video cannot be decoded; none is skipped.
        SetupError: a single view does not fit into memory.
        NonFiniteError: a vector has NaN or infinite values.
    """
    clip, was_training = clip or student.clip, student.training
    student.eval().to(accelerator.device)
    micro_batches = MicroBatches(
        compute, clip, accelerator.device, plan=plan, size=clips_per_step, divisible=divisible
    )
    size = micro_batches.size
    clips_of_a_video = (plan.views_of_a_video(clip) or size) * plan.clips_of_a_view(clip)
    batches = decoded_videos(
        videos,
        clip,
        accelerator,
        title=title,
        plan=plan,
        skip=skip,
        batch_size=max(size // clips_of_a_video, 1),
        workers=workers,
        console=console,
    )
    try:
        with channels_last(student):
            for batch in batches:
                with accelerator.autocast():
                    vectors_VD = micro_batches(batch.views, batch.keys)
                yield from _by_video(batch, vectors_VD)
    finally:
        student.train(was_training)


def _by_video(batch: ViewBatch, vectors_VD: Tensor) -> Iterator[VideoOutput]:
    """Yields each video's part of a batch; the views of a video are consecutive."""
    views_of = {key: len(list(views)) for key, views in groupby(batch.keys)}
    parts = (tensor.split(list(views_of.values())) for tensor in (vectors_VD, batch.views.scale_V))
    for key, vectors, scale in zip(views_of, *parts, strict=True):
        yield VideoOutput(key, vectors.clone(), scale.clone())


def gather_outputs(
    outputs: Iterator[VideoOutput], videos: VideoSet, accelerator: Accelerator
) -> list[VideoOutput]:
    """Gathers the outputs of all processes, in the order of `videos`, on every process."""
    gathered = gather_list(accelerator, list(outputs))
    by_key = {output.key: output for output in gathered}
    missing = [key for key in videos.keys if key not in by_key]
    if missing or not len(by_key) == len(gathered) == len(videos):
        raise AssertionError(
            f"expected {len(videos)} videos, computed {len(gathered)}; missing {missing[:3]}"
        )
    return [by_key[key] for key in videos.keys]
