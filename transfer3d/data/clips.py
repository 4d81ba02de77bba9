"""Decodes views of one video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transfer3d.data.augment import crop_frames, decode_side, evaluation_transform
from transfer3d.data.container import Source
from transfer3d.data.decode import OpenVideo, Video
from transfer3d.data.sampling import Indices
from transfer3d.data.views import ViewPlan, Views
from transfer3d.layout import ClipSpec


def clip_of_file(path: str | Path, clip: ClipSpec) -> Tensor:
    """Returns a video's centre clip in a student's input format; it is decoded in this process.

    Args:
        path: a video file.
        clip: the student's `clip`.

    Returns:
        uint8, C T H W, or U C T H W for the video-level families; see `nn.pixels.normalise`.

    Raises:
        BadVideo: the file cannot be decoded.
    """
    return views_of_video(Path(path), clip, ViewPlan(), name=str(path)).clips()[0]


def views_of_video(
    source: Source,
    clip: ClipSpec,
    plan: ViewPlan,
    *,
    name: str,
    number: int = 0,
    transform: nn.Module | None = None,
    open_video: OpenVideo = Video,
) -> Views:
    """Decodes a video once and returns its test views.

    With several crops the views are all crops of the first clip, then those of the second, and so on. Memory
    is that of the distinct frames: 2 GB for "windows" of a ten-minute video at 224 pixels.

    Args:
        source: a path, or the file's bytes.
        clip: clip settings of the student.
        plan: the views.
        name: for messages.
        number: index of the video, for random views.
        transform: `evaluation_transform` of clip and plan, if it is shared by many videos.
        open_video: decodes in this process or in a child; see `Decoder`.
    """
    with open_video(source, name=name, channels=clip.channels) as video:
        indices, scale_V = plan.indices(video.frames, video.fps, clip, number=number)
        distinct, place = np.unique(indices, return_inverse=True)
        frames = video.read(distinct, short_side=decode_side(clip))
    cut = crop_frames(transform or evaluation_transform(clip, plan.crops, plan.three), frames)
    view = torch.from_numpy(place.reshape(indices.shape))
    by_crop = [view + crop * len(distinct) for crop in range(len(cut))]
    scale_V = torch.from_numpy(scale_V).repeat_interleave(len(cut))
    return Views(torch.cat(cut), torch.stack(by_crop, dim=1).flatten(0, 1), scale_V)


def clips_of_frames(frames_NCHW: Tensor, indices: Indices) -> Tensor:
    """Gathers the frames with indices [..., T] as clips [..., C, T, H, W]."""
    return frames_NCHW.unflatten(0, indices.shape).transpose(-4, -3)
