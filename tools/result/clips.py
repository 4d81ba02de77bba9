"""Clips of videos that are decoded once and then stay in memory.

The same clips as `transfer3d.data.pipeline` makes, in the same order (a test holds them against each other):
many short trainings on one small dataset would otherwise decode most of the time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from transfer3d.data.augment import (
    AugmentConfig,
    crop_frames,
    decode_side,
    evaluation_transform,
    training_transform,
    transform_frames,
)
from transfer3d.data.batch import Batch
from transfer3d.data.clips import clips_of_frames
from transfer3d.data.decode import Frames, Video
from transfer3d.data.order import order_of
from transfer3d.data.pipeline import Second, view_batches
from transfer3d.data.sampling import training_clip
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
        second: see `clip_batches`.
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
        second: Second = "none",
    ) -> None:
        self._decoded, self._videos, self._clip = decoded, videos, clip
        self._batch_size, self._steps, self._seed, self._second = batch_size, steps, seed, second
        self._order = order_of(videos, seed, balanced=False)
        self._varied, self._centre = training_transform(clip, augment), evaluation_transform(clip)

    def __call__(self, first_step: int) -> Iterator[Batch]:
        """Yields the batches from a step on."""
        for step in range(first_step, self._steps):
            first = step * self._batch_size
            yield self._batch([self._order.draw(first + place) for place in range(self._batch_size)])

    def _batch(self, draws: list[tuple[int, int]]) -> Batch:
        clips, seconds, names = zip(*(self._one(*draw) for draw in draws), strict=True)
        videos = self._videos
        labels = [videos.labels[index] for _, index in draws]
        return Batch(
            torch.stack(clips),
            torch.tensor([-1 if label is None else label for label in labels]),
            [videos.keys[index] for _, index in draws],
            [videos.sources[index] for _, index in draws],
            seconds_u8=None if self._second == "none" else torch.stack(seconds),
            second_names=list(names) if self._second == "centre" else None,
        )

    def _one(self, epoch: int, index: int) -> tuple[Tensor, Tensor | None, str]:
        whole = self._decoded.frames(self._videos, index)
        rng = np.random.default_rng((self._seed, epoch, index))
        indices = training_clip(len(whole), self._clip, rng)
        frames = whole[indices.ravel()]

        def varied() -> Tensor:
            seed = int(rng.integers(2**63))
            return clips_of_frames(transform_frames(self._varied, frames, seed=seed), indices)

        clip, second = varied(), None
        if self._second == "independent":
            second = varied()
        elif self._second == "centre":
            second = clips_of_frames(crop_frames(self._centre, frames)[0], indices)
        return clip, second, f"{self._videos.keys[index]} {' '.join(map(str, indices.ravel()))}"


def side_of(clip: ClipSpec, augment: AugmentConfig) -> int:
    """Returns the side that `DecodedVideos` needs for training."""
    return decode_side(clip, augment.scale[1])


def centre_clips(videos: VideoSet, clip: ClipSpec) -> tuple[Tensor, Tensor]:
    """Returns the clip at the centre of each video [N, C, T, H, W] uint8, and the labels [N]."""
    batches = list(view_batches(videos, clip, batch_size=64))
    return torch.cat([batch.clips_u8 for batch in batches]), torch.cat([batch.labels_B for batch in batches])
