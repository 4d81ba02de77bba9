"""Single clips as a torch Dataset, for custom training loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from transfer3d.data.augment import evaluation_transform
from transfer3d.data.augment_config import AugmentConfig
from transfer3d.data.clips import views_of_video
from transfer3d.data.decoder import Decoder
from transfer3d.data.source import open_videos
from transfer3d.data.training_clips import ClipSample, ClipSampler, TeacherView
from transfer3d.data.videoset import VideoSet, check_channels
from transfer3d.data.views import ViewPlan
from transfer3d.layout import ClipSpec


class VideoDataset(Dataset[ClipSample]):
    """One clip of each video; batch them with `collate_clips`.

    Videos are decoded in a child process, so that a file that crashes the decoder does not end the program;
    the workers of a DataLoader, which cannot have children, decode in their own process.

    Args:
        data: a `VideoSet`, or a path that `open_videos` understands.
        clip: the student's `clip`.
        training: True = a random, augmented clip. Randomness comes from torch's generator, which a DataLoader
            seeds in each worker and epoch; `torch.manual_seed` makes it reproducible. False = the centre
            clip.
        split: see `open_videos`; ignored for a `VideoSet`.
        labelled: see `open_videos`; ignored for a `VideoSet`.
        augment: augmentation of training clips. MixUp and CutMix act on batches, so they are ignored here.
        seed: seed of the training clips, combined with torch's generator.
        teacher_view: whether training clips have a second view of their frames, see `TeacherView`.

    Raises:
        UsageError: no such data or split, or only one of data and clip is optical flow.
        DataError: no video can be decoded; also raised by items whose video cannot be decoded.

    Example:
        >>> dataset = VideoDataset("videos/", clip=student.clip, training=True)
        >>> loader = DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=collate_clips)
    """

    def __init__(
        self,
        data: str | Path | VideoSet,
        clip: ClipSpec,
        training: bool = False,
        split: str | None = "train",
        labelled: bool | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        teacher_view: TeacherView = "none",
    ) -> None:
        is_set = isinstance(data, VideoSet)
        self.videos = data if is_set else open_videos(data, split=split, labelled=labelled)
        check_channels(self.videos, clip)
        self.clip, self.training, self._seed = clip, training, seed
        self._sampler = ClipSampler(clip, augment or AugmentConfig(), self.videos.classes, teacher_view)
        self._centre, self._decoder = evaluation_transform(clip), Decoder()

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> ClipSample:
        """Returns a clip, uint8 C T H W, or U C T H W for the video-level families."""
        if not 0 <= index < len(self):
            raise IndexError(f"video {index} of {len(self)}")
        if self.training:
            drawn = int(torch.randint(2**62, ()))
            rng = np.random.default_rng((self._seed, drawn, index))
            return self._sampler.load(self.videos, index, rng, self._decoder.open)
        key, label = self.videos.keys[index], self.videos.labels[index]
        views = views_of_video(
            self.videos.open(index), self.clip, ViewPlan(), name=key, transform=self._centre,
            open_video=self._decoder.open,
        )  # fmt: skip
        return ClipSample(
            views.clips()[0],
            -1 if label is None else label,
            key,
            self.videos.sources[index],
            label_set=self.videos.label_sets[index],
        )
