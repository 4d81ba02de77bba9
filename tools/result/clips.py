"""Clips of videos that are decoded once and then stay in memory.

The same clips as `transfer3d.data.pipeline` makes, in the same order (a test holds them against each other):
many short trainings on one small dataset would otherwise decode most of the time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import AugmentConfig, decode_side
from transfer3d.data.decode import Frames, Video
from transfer3d.data.epoch_sampler import make_epoch_sampler
from transfer3d.data.pipeline import view_batches
from transfer3d.data.training_clips import ClipSample, ClipSampler, TeacherView, collate_clips
from transfer3d.data.videoset import VideoSet
from transfer3d.layout import ClipSpec


class DecodedVideos:
    """The frames of one dataset's videos, each decoded when it is first asked for.

    Args:
        side: what the short side of a frame is resized to.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._frames: dict[str, Frames] = {}

    def frames(self, videos: VideoSet, index: int) -> Frames:
        """Returns all frames of a video [T, H, W, 3]."""
        key = videos.keys[index]
        if key not in self._frames:
            with Video(videos.open(index), name=key) as video:
                self._frames[key] = video.read(np.arange(video.frames), short_side=self._side)
        return self._frames[key]


class MemoryBatches:
    """Training batches, as `clip_batches` of one process gives them.

    Args:
        decoded: at `side_of(clip, augment)`.
        videos: that are trained on.
        clip: what the student wants.
        augment: how clips are varied; without MixUp and CutMix.
        batch_size: clips.
        steps: number of the step after the last one.
        seed: of order, sampling and augmentation.
        teacher_view: see `clip_batches`.
    """

    def __init__(
        self,
        decoded: DecodedVideos,
        videos: VideoSet,
        clip: ClipSpec,
        augment: AugmentConfig,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        teacher_view: TeacherView = "none",
    ) -> None:
        self._decoded, self._videos = decoded, videos
        self._batch_size, self._steps, self._seed = batch_size, steps, seed
        self._order = make_epoch_sampler(videos, seed, balanced=False)
        self._sampler = ClipSampler(clip, augment, teacher_view=teacher_view)

    def __call__(self, first_step: int) -> Iterator[ClipBatch]:
        """Yields the batches from a step on."""
        for step in range(first_step, self._steps):
            first = step * self._batch_size
            yield self._batch([self._order.draw(first + place) for place in range(self._batch_size)])

    def _batch(self, draws: list[tuple[int, int]]) -> ClipBatch:
        return collate_clips([self._one(*draw) for draw in draws])

    def _one(self, epoch: int, index: int) -> ClipSample:
        frames = self._decoded.frames(self._videos, index)
        rng = np.random.default_rng((self._seed, epoch, index))
        return self._sampler.sample(self._videos, index, len(frames), lambda indices: frames[indices], rng)


def side_of(clip: ClipSpec, augment: AugmentConfig) -> int:
    """Returns the side that `DecodedVideos` needs for training."""
    return decode_side(clip, augment.scale[1])


def centre_clips(videos: VideoSet, clip: ClipSpec) -> tuple[Tensor, Tensor]:
    """Returns the clip at the centre of each video [N, C, T, H, W] uint8, and the labels [N]."""
    batches = list(view_batches(videos, clip, batch_size=64))
    return torch.cat([batch.clips for batch in batches]), torch.cat([batch.labels for batch in batches])
