"""Training clips: sampling of frames and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from transfer3d.batch import ClipBatch, multi_hot
from transfer3d.data.augment import (
    AugmentConfig,
    crop_frames,
    decode_side,
    evaluation_transform,
    training_transform,
    transform_frames,
    transform_labelled,
)
from transfer3d.data.augment_config import Sampling
from transfer3d.data.clips import clips_of_frames
from transfer3d.data.decode import OpenVideo
from transfer3d.data.pixels import Frames
from transfer3d.data.sampling import Indices, training_clip
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec

TeacherView = Literal["none", "independent", "centre"]
"""The teacher's view of a training clip's frames: augmented independently, or the test crop."""


class ClipSample(NamedTuple):
    """One clip.

    Attributes:
        clip: RGB uint8, C T H W, or U C T H W for the video-level families.
        label: class index; -1 if unlabelled.
        key: name of the video.
        source: the original video.
        teacher_clip: the teacher's view of the same frames, in the format of `clip`, or None.
        teacher_view_key: equal keys mean equal pixels in `teacher_clip`; None = the view is random, or there
            is none.
        label_set: all its labels.
    """

    clip: Tensor
    label: int
    key: str
    source: str
    teacher_clip: Tensor | None = None
    teacher_view_key: str | None = None
    label_set: tuple[int, ...] = ()


class ClipSampler:
    """Draws training clips.

    Args:
        clip: clip settings of the student.
        augment: the augmentation; MixUp and CutMix act on batches (see `mix`).
        classes: names by label.
        teacher_view: the teacher's view of the frames: none, augmented independently, or the test crop.
        teacher_clip: size and crop of the centre view; None = the student's. If it is larger, frames are
            decoded at its size and scaled down for the student.

    Attributes:
        side: the short side at which frames are needed, pixels.

    Raises:
        UsageError: `augment.sampling` is "cover", and the clip has several units.
    """

    def __init__(
        self,
        clip: ClipSpec,
        augment: AugmentConfig,
        classes: Sequence[str] = (),
        teacher_view: TeacherView = "none",
        teacher_clip: ClipSpec | None = None,
    ) -> None:
        if augment.sampling == "cover" and clip.units > 1:
            raise UsageError(
                f'augment.sampling = "cover" takes single clips, not {clip.units} a video. Leave it out.'
            )
        self.side = decode_side(clip, augment.scale[1])
        teacher_clip = teacher_clip or clip
        if teacher_view == "centre":
            self.side = max(self.side, decode_side(teacher_clip))
        self._clip, self._teacher_view = clip, teacher_view
        self._sampling: Sampling = augment.sampling
        self._augment = training_transform(clip, augment, classes)
        self._centre = evaluation_transform(teacher_clip)

    def load(
        self, videos: VideoSet, index: int, rng: np.random.Generator, open_video: OpenVideo
    ) -> ClipSample:
        """Decodes a clip of a video; see `sample`."""
        source, name = videos.open(index), videos.keys[index]
        with open_video(source, name=name, channels=self._clip.channels) as video:
            return self.sample(
                videos, index, video.frames, lambda indices: video.read(indices, short_side=self.side), rng
            )

    def sample(
        self,
        videos: VideoSet,
        index: int,
        count: int,
        read: Callable[[Indices], Frames],
        rng: np.random.Generator,
    ) -> ClipSample:
        """Returns a clip of a video.

        Args:
            videos: with the video's key, label and source.
            index: index of the video.
            count: frames of the video.
            read: returns the frames with these indices, with `side` as their short side.
            rng: source of all randomness.
        """
        key, label = videos.keys[index], videos.labels[index]
        indices = training_clip(count, self._clip, rng, self._sampling)
        frames = read(indices.ravel())
        given = (-1 if label is None else label, *videos.label_sets[index])
        frames_u8, (label, *label_set) = transform_labelled(
            self._augment, frames, given, seed=int(rng.integers(2**63))
        )
        teacher_u8 = view_key = None
        if self._teacher_view == "centre":
            teacher_u8 = crop_frames(self._centre, frames)[0]
            view_key = f"{key} {' '.join(map(str, indices.ravel()))}"
        elif self._teacher_view == "independent":
            teacher_u8 = transform_frames(self._augment, frames, seed=int(rng.integers(2**63)))
        teacher_clip = None if teacher_u8 is None else clips_of_frames(teacher_u8, indices)
        return ClipSample(
            clips_of_frames(frames_u8, indices),
            label,
            key,
            videos.sources[index],
            teacher_clip,
            view_key,
            tuple(label_set),
        )


def collate_clips(samples: Sequence[ClipSample], *, classes: int | None = None) -> ClipBatch:
    """Collates clips to a batch; the `collate_fn` of a DataLoader over a `VideoDataset`.

    Args:
        samples: samples of one batch.
        classes: K, for multi-label data: then `targets` are multi-hot.
    """
    teacher_clips = [sample.teacher_clip for sample in samples if sample.teacher_clip is not None]
    view_keys = [sample.teacher_view_key for sample in samples if sample.teacher_view_key is not None]
    return ClipBatch(
        torch.stack([sample.clip for sample in samples]).contiguous(),
        torch.tensor([sample.label for sample in samples]),
        [sample.key for sample in samples],
        [sample.source for sample in samples],
        targets=None if classes is None else multi_hot([s.label_set for s in samples], classes),
        teacher_clips=torch.stack(teacher_clips).contiguous() if teacher_clips else None,
        teacher_view_keys=view_keys or None,
    )
