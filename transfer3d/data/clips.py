"""Decodes views of one video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transfer3d.data.augment import crop_frames, decode_side, evaluation_transform
from transfer3d.data.container import Source
from transfer3d.data.decode import OpenVideo, Video
from transfer3d.data.flow import LEVELS
from transfer3d.data.sampling import Indices
from transfer3d.data.views import FrameOrder, ViewPlan, Views
from transfer3d.layout import FLOW_CHANNELS, ClipSpec


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
    frames_u8, views = torch.cat(cut), torch.stack(by_crop, dim=1).flatten(0, 1)
    if clip.channels == FLOW_CHANNELS and "frames_reversed" in plan.orders:
        frames_u8, views = _with_opposite_motion(frames_u8, views, plan.orders)
    return Views(frames_u8, views, torch.from_numpy(scale_V).repeat_interleave(len(cut)))


def _with_opposite_motion(
    flow_u8: Tensor, views: Tensor, orders: Sequence[FrameOrder]
) -> tuple[Tensor, Tensor]:
    """Negates the optical flow of reversed clips: in a reversed video everything moves the other way.

    Args:
        flow_u8: fields [N, 2, H, W].
        views: their indices [V, T] or [V, U, T], as many views for each order, one order after the other.
        orders: see `ViewPlan`.

    Returns:
        The fields followed by their opposites, and the new indices.
    """
    parts = [
        part + len(flow_u8) if order == "frames_reversed" else part
        for order, part in zip(orders, views.chunk(len(orders)), strict=True)
    ]
    return torch.cat([flow_u8, LEVELS - flow_u8]), torch.cat(parts)


def clips_of_frames(frames_NCHW: Tensor, indices: Indices) -> Tensor:
    """Gathers the frames with indices [..., T] as clips [..., C, T, H, W]."""
    return frames_NCHW.unflatten(0, indices.shape).transpose(-4, -3)
