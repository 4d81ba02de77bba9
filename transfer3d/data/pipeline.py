"""Batches of clips from videos; the order of clips is a pure function of (seed, epoch, index).

It does not depend on worker processes or ranks: the endless sequence of per-epoch permutations is divided
into global batches, a rank takes its slice of each, and a worker makes whole batches. So a run can resume at
any step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import evaluation_transform
from transfer3d.data.augment_config import AugmentConfig
from transfer3d.data.batch import ClipId, ViewBatch
from transfer3d.data.clips import views_of_video
from transfer3d.data.container import BadVideo
from transfer3d.data.epoch_sampler import make_epoch_sampler
from transfer3d.data.mix import mix_batch
from transfer3d.data.training_clips import ClipSample, ClipSampler, TeacherView, collate_clips
from transfer3d.data.videoset import VideoSet, check_channels
from transfer3d.data.views import ViewPlan, Views, join_views
from transfer3d.data.workers import Made, Maker, run_workers
from transfer3d.errors import DataError, UsageError
from transfer3d.layout import ClipSpec

CENTRE = ViewPlan()


@dataclass
class ClipBatches:
    """The training batches of one rank; see `clip_batches`.

    Attributes:
        bad: reasons of the videos that could not be decoded so far, by key.
    """

    maker: _TrainingClips
    batch_size: int
    steps: int
    start_step: int
    rank: int
    world: int
    workers: int
    max_bad_fraction: float
    bad: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return max(self.steps - self.start_step, 0)

    def __iter__(self) -> Iterator[ClipBatch]:
        videos = self.maker.videos
        for batch, bad in run_workers(self.maker, self._plan(), self.workers):
            self.bad.update(bad)
            if len(self.bad) > self.max_bad_fraction * len(videos):
                key, reason = next(iter(self.bad.items()))
                raise DataError(
                    f"{len(self.bad)} of {len(videos)} videos do not decode, first {key}: {reason}. "
                    "Leave them out, or raise max_bad_fraction."
                )
            yield batch

    def _plan(self) -> Iterator[list[ClipId]]:
        """Yields the clip ids of each of this rank's batches."""
        mine = self.batch_size // self.world
        for step in range(self.start_step, self.steps):
            first = step * self.batch_size + self.rank * mine
            yield [self.maker.order.draw(position) for position in range(first, first + mine)]


def clip_batches(
    videos: VideoSet,
    clip: ClipSpec,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    augment: AugmentConfig,
    start_step: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    max_bad_fraction: float = 0.01,
    balanced: bool = False,
    teacher_view: TeacherView = "none",
    teacher_clip: ClipSpec | None = None,
    multi_label: bool = False,
) -> ClipBatches:
    """Returns training batches: each video once per epoch, over all ranks, epoch after epoch.

    A video that cannot be decoded is replaced by the next one, and counted.

    Args:
        videos: to train on.
        clip: the student's input.
        batch_size: total batch size of all ranks.
        steps: index of the step after the last one.
        seed: for order, sampling and augmentation.
        augment: the augmentation.
        start_step: the first step to load; earlier ones cost nothing.
        rank: rank of this process.
        world: number of processes.
        workers: processes that decode and transform; 0 transforms here, and decodes in one child.
        max_bad_fraction: share of videos that may fail to decode before the run stops.
        balanced: sample every class equally often; an epoch has the same length, but not each video once.
        teacher_view: see `TeacherView`.
        teacher_clip: see `ClipSampler`.
        multi_label: whether batches have `targets` with all labels of each clip, not only its first.

    Raises:
        UsageError: fewer videos than processes, a batch size that they do not divide, an option that needs
            labels, or only one of the videos and the clip is optical flow.
        DataError: while iterating: too many bad videos, or damaged shards.
        SetupError: while iterating: a worker died.
    """
    _check_world(videos, world)
    check_channels(videos, clip)
    if (augment.mixup or augment.cutmix) and any(label is None for label in videos.labels):
        raise UsageError("mixup and cutmix need labels. Switch them off for unlabelled videos.")
    if batch_size < 1 or batch_size % world:
        raise UsageError(f"batch_size={batch_size} is not divisible by {world} processes.")
    tolerated = int(max_bad_fraction * len(videos))
    maker = _TrainingClips(
        videos, clip, augment, seed, tolerated, balanced, teacher_view, teacher_clip, multi_label
    )
    return ClipBatches(maker, batch_size, steps, start_step, rank, world, workers, max_bad_fraction)


@dataclass(frozen=True)
class ViewBatches:
    """The test batches of one rank; see `view_batches`."""

    maker: _TestingViews
    batch_size: int
    rank: int
    world: int
    workers: int

    def __len__(self) -> int:
        return len(self._plan())

    def __iter__(self) -> Iterator[ViewBatch]:
        for batch, _ in run_workers(self.maker, self._plan(), self.workers, ahead=True):
            yield batch

    def _plan(self) -> list[list[ClipId]]:
        mine = [ClipId(0, index) for index in range(self.rank, len(self.maker.videos), self.world)]
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]


def view_batches(
    videos: VideoSet,
    clip: ClipSpec,
    *,
    batch_size: int,
    plan: ViewPlan = CENTRE,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> ViewBatches:
    """Returns test batches: each video exactly once over all ranks, with all its views in one batch.

    Args:
        videos: to test on.
        clip: the student's input.
        batch_size: videos (not views) in a batch of this rank.
        plan: the views of each video; by default the centre clip.
        rank: rank of this process.
        world: number of processes.
        workers: processes that decode and transform; 0 transforms here, and decodes in one child.

    Raises:
        UsageError: fewer videos than processes, or only one of the videos and the clip is optical flow.
        DataError: while iterating: a video cannot be decoded; none is skipped.
        SetupError: while iterating: a worker died.
    """
    _check_world(videos, world)
    check_channels(videos, clip)
    return ViewBatches(_TestingViews(videos, clip, plan), batch_size, rank, world, workers)


class _TrainingClips(Maker[ClipBatch]):
    """Makes training batches, in a worker or in this process."""

    def __init__(
        self,
        videos: VideoSet,
        clip: ClipSpec,
        augment: AugmentConfig,
        seed: int,
        tolerated: int,
        balanced: bool,
        teacher_view: TeacherView,
        teacher_clip: ClipSpec | None,
        multi_label: bool,
    ) -> None:
        self.videos, self.seed = videos, seed
        self.order = make_epoch_sampler(videos, seed, balanced=balanced)
        self._tolerated, self._augment, self._multi_label = tolerated, augment, multi_label
        self._sampler = ClipSampler(clip, augment, videos.classes, teacher_view, teacher_clip)

    def make(self, draws: list[ClipId]) -> Made[ClipBatch]:
        """Returns a batch, and the videos that could not be decoded, with reasons."""
        bad: dict[str, str] = {}
        samples: list[ClipSample] = []
        for draw in draws:
            while True:
                try:
                    self.now_at(draw.video)
                    rng = np.random.default_rng(draw.entropy(self.seed))
                    samples.append(self._sampler.load(self.videos, draw.video, rng, self.open_video))
                    break
                except BadVideo as fault:
                    bad[self.videos.keys[draw.video]] = str(fault)
                    if len(bad) > self._tolerated:
                        raise
                    draw = draw._replace(video=(draw.video + 1) % len(self.videos))
        classes = len(self.videos.classes)
        batch = collate_clips(samples, classes=classes if self._multi_label else None)
        if self._augment.mixup or self._augment.cutmix:
            rng = np.random.default_rng((self.seed, 1, draws[0].epoch, draws[0].video))
            batch = mix_batch(batch, self._augment, classes, seed=int(rng.integers(2**63)))
        return batch, bad


class _TestingViews(Maker[ViewBatch]):
    """Makes test batches, in a worker or in this process."""

    def __init__(self, videos: VideoSet, clip: ClipSpec, plan: ViewPlan) -> None:
        self.videos, self._clip, self._plan = videos, clip, plan
        self._transform = evaluation_transform(clip, plan.crops, plan.three)

    def make(self, draws: list[ClipId]) -> Made[ViewBatch]:
        """Returns a batch; no bad video is skipped."""
        parts = [self._one(draw.video) for draw in draws]
        owners = [draw.video for draw, views in zip(draws, parts, strict=True) for _ in range(len(views))]
        labels = [self.videos.labels[index] for index in owners]
        return ViewBatch(
            join_views(parts),
            torch.tensor([-1 if label is None else label for label in labels]),
            [self.videos.keys[index] for index in owners],
        ), {}

    def _one(self, index: int) -> Views:
        self.now_at(index)
        source, name = self.videos.open(index), self.videos.keys[index]
        return views_of_video(
            source, self._clip, self._plan, name=name, number=index, transform=self._transform,
            open_video=self.open_video,
        )  # fmt: skip


def _check_world(videos: VideoSet, world: int) -> None:
    if len(videos) < world:
        raise UsageError(f"{len(videos)} videos for {world} processes. Start fewer processes.")
