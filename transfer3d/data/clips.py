"""Single clips of videos, for those who bring their own loop."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from transfer3d.data.augment import crop_frames, decode_side, evaluation_transform
from transfer3d.data.crops import Crops
from transfer3d.data.decode import Source, Video
from transfer3d.data.sampling import Indices, Views, evaluation_views
from transfer3d.data.source import open_videos
from transfer3d.layout import ClipSpec


def clip_of_file(path: str | Path, clip: ClipSpec) -> Tensor:
    """Returns the clip at the centre of a video, as a student wants to see it.

    Args:
        path: a video file.
        clip: the student's `clip`.

    Returns:
        uint8, C T H W, or U C T H W for the video-level families; `nn.pixels.normalise` makes it a float.

    Raises:
        BadVideo: the file cannot be decoded.
    """
    return evaluation_clips(Path(path), clip, 1, name=str(path))[0]


def evaluation_clips(
    source: Source,
    clip: ClipSpec,
    views: Views,
    *,
    name: str,
    crops: Crops = 1,
    transform: v2.Transform | None = None,
) -> Tensor:
    """Returns the views of a video that a test looks at, V first, otherwise as `clip_of_file`.

    With several crops V counts all crops of the first clip, then those of the second, and so on.

    Args:
        source: a path, or the file's bytes.
        clip: what the student wants.
        views: clips of the video: so many, evenly, "cover" or "windows".
        name: what messages call it.
        crops: of each clip; see `evaluation_transform`.
        transform: `evaluation_transform(clip, crops)`, where it is made once for many videos.
    """
    with Video(source, name=name) as video:
        indices = evaluation_views(video.frames, clip, views, fps=video.fps)
        frames = video.read(indices.ravel(), short_side=decode_side(clip))
    cut = crop_frames(transform or evaluation_transform(clip, crops), frames)
    return torch.stack([clips_of_frames(crop, indices) for crop in cut], dim=1).flatten(0, 1)


def clips_of_frames(frames_NCHW: Tensor, indices: Indices) -> Tensor:
    """Returns [..., C, T, H, W] for the frames that indices [..., T] stand for."""
    return frames_NCHW.unflatten(0, indices.shape).transpose(-4, -3)


class Clips(Dataset[tuple[Tensor, int]]):
    """The centre clips of a dataset with their labels, for a torch DataLoader.

    Args:
        data: a shard folder, class folders, a flat folder of videos, or what `transfer3d synth` wrote.
        clip: what the student wants.
        split: which part of the data; None = all of an unlabelled folder.
        labelled: whether each video must have a class; without, labels are -1.
    """

    def __init__(
        self, data: str | Path, clip: ClipSpec, *, split: str | None = "test", labelled: bool = True
    ) -> None:
        self.videos, self.clip = open_videos(data, split=split, labelled=labelled), clip

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns the clip (see `clip_of_file`) and the label."""
        label = self.videos.labels[index]
        clips_u8 = evaluation_clips(self.videos.open(index), self.clip, 1, name=self.videos.keys[index])
        return clips_u8[0], -1 if label is None else label
