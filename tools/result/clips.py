"""Clips of videos that are decoded once and then stay in memory.

A test shows that they are the clips of `Trainer`'s own pipeline, in the same order. Without this, many short
trainings on one small dataset would mostly decode: a batch takes eight times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transfer3d import ClipBatch, ClipSpec
from transfer3d.data import (
    AugmentConfig,
    ClipSample,
    ClipSampler,
    Video,
    VideoDataset,
    VideoSet,
    collate_clips,
    make_epoch_sampler,
)

Cache = dict[tuple[str, int], NDArray[np.uint8]]
"""All frames [T, H, W, 3] of the videos that were needed so far, by key and short side."""


def memory_batches(
    videos: VideoSet,
    clip: ClipSpec,
    augment: AugmentConfig,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    cache: Cache,
    teacher_view: Literal["none", "independent", "centre"] = "none",
    teacher_clip: ClipSpec | None = None,
) -> Callable[[int], Iterator[ClipBatch]]:
    """Returns a function from the first step to the training batches from that step on.

    Args:
        videos: to train on.
        clip: the student's.
        augment: without MixUp and CutMix.
        batch_size: clips of a step.
        steps: of the whole run.
        seed: of order, sampling and augmentation.
        cache: is filled, and may be shared by runs on the same dataset.
        teacher_view: see `ClipSampler`.
        teacher_clip: see `ClipSampler`.
    """
    order = make_epoch_sampler(videos, seed, balanced=False)
    sampler = ClipSampler(clip, augment, teacher_view=teacher_view, teacher_clip=teacher_clip)

    def sample(position: int) -> ClipSample:
        draw = order.draw(position)
        index = draw.video
        place = videos.keys[index], sampler.side
        if place not in cache:
            with Video(videos.open(index), name=place[0]) as video:
                cache[place] = video.read(np.arange(video.frames), short_side=sampler.side)
        frames, rng = cache[place], np.random.default_rng(draw.entropy(seed))
        return sampler.sample(videos, index, len(frames), lambda indices: frames[indices], rng)

    def batches(first_step: int) -> Iterator[ClipBatch]:
        for step in range(first_step, steps):
            first = step * batch_size
            yield collate_clips([sample(position) for position in range(first, first + batch_size)])

    return batches


def centre_clips(videos: VideoSet, clip: ClipSpec) -> ClipBatch:
    """Returns the clip at the centre of each video."""
    dataset = VideoDataset(videos, clip)
    return collate_clips([dataset[index] for index in range(len(dataset))])
