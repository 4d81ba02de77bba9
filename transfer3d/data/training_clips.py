"""One training clip: which frames of a video it shows, and how they are varied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import (
    AugmentConfig,
    crop_frames,
    decode_side,
    evaluation_transform,
    training_transform,
    transform_frames,
    transform_labelled,
)
from transfer3d.data.clips import clips_of_frames
from transfer3d.data.decode import Frames
from transfer3d.data.sampling import Indices, training_clip
from transfer3d.layout import ClipSpec

TeacherView = Literal["none", "independent", "centre"]
"""Another view of a training clip's frames: varied by draws of its own, or the centre as in testing."""


class TrainingClip(NamedTuple):
    """One training clip.

    Attributes:
        clip_u8: see `Batch`.
        label: -1 where there is none.
        teacher_clip_u8: see `Batch`; None where none was asked for.
        name: which frames of which video it shows.
    """

    clip_u8: Tensor
    label: int
    teacher_clip_u8: Tensor | None
    name: str


class ClipSampler:
    """Draws training clips.

    Args:
        clip: what the student wants.
        augment: how clips are varied; MixUp and CutMix are not of a clip, but of a batch (see `mix`).
        classes: names by label.
        teacher_view: see `TeacherView`.

    Attributes:
        side: the short side that frames are needed at.
    """

    def __init__(
        self,
        clip: ClipSpec,
        augment: AugmentConfig,
        classes: Sequence[str] = (),
        teacher_view: TeacherView = "none",
    ) -> None:
        self.side = decode_side(clip, augment.scale[1])
        self._clip, self._teacher_view = clip, teacher_view
        self._varied, self._centre = training_transform(clip, augment, classes), evaluation_transform(clip)

    def draw(
        self,
        key: str,
        label: int | None,
        count: int,
        read: Callable[[Indices], Frames],
        rng: np.random.Generator,
    ) -> TrainingClip:
        """Returns a clip of a video.

        Args:
            key: of the video.
            label: of the video.
            count: its frames.
            read: gives those of these numbers, at `side`.
            rng: all draws are its own.
        """
        indices = training_clip(count, self._clip, rng)
        frames = read(indices.ravel())
        frames_u8, label = transform_labelled(
            self._varied, frames, -1 if label is None else label, seed=int(rng.integers(2**63))
        )
        teacher_clip_u8 = None
        if self._teacher_view == "centre":
            teacher_clip_u8 = clips_of_frames(crop_frames(self._centre, frames)[0], indices)
        elif self._teacher_view == "independent":
            again_u8 = transform_frames(self._varied, frames, seed=int(rng.integers(2**63)))
            teacher_clip_u8 = clips_of_frames(again_u8, indices)
        name = f"{key} {' '.join(map(str, indices.ravel()))}"
        return TrainingClip(clips_of_frames(frames_u8, indices), label, teacher_clip_u8, name)

    def batch(self, drawn: Sequence[TrainingClip], keys: list[str], sources: list[str]) -> ClipBatch:
        """Puts clips together.

        Args:
            drawn: the clips.
            keys: of their videos.
            sources: the original videos.
        """
        teacher_clips = [one.teacher_clip_u8 for one in drawn if one.teacher_clip_u8 is not None]
        return ClipBatch(
            torch.stack([one.clip_u8 for one in drawn]).contiguous(),
            torch.tensor([one.label for one in drawn]),
            keys,
            sources,
            teacher_clips=torch.stack(teacher_clips).contiguous() if teacher_clips else None,
            teacher_view_keys=[one.name for one in drawn] if self._teacher_view == "centre" else None,
        )
