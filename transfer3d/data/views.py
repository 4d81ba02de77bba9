"""The test views of a video, and their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer3d.data.peers import Peer, peer_clips
from transfer3d.data.sampling import (
    Indices,
    action_units,
    cover_clips,
    even_clips,
    temporal_windows,
    training_clip,
)
from transfer3d.layout import ClipSpec

Places = Literal["even", "random", "units", "cover", "windows"] | Peer
FrameOrder = Literal[
    "forward", "frames_reversed", "frames_shuffled", "still", "units_reversed", "units_shuffled"
]
Crops = Literal[1, 3, 10]
ThreeCrops = Literal["transfer3d", "slowfast", "mmaction2"]
UNKNOWN_FPS = 25.0
SHUFFLES = 1
"""Separates the random numbers of shuffles from those of random positions."""


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """The selection of a video's test views.

    A view is one clip, or for the video-level families one clip from each section of the video.

    Attributes:
        places: "even" = `count` evenly spaced views; "random" = `count`, as in training; "units" = one clip
            from each of `count` equal sections, which a video-level family processes together; "cover" = all
            non-overlapping clips; "windows" = one view per window of `temporal_windows`. A video-level family
            covers the video in one view. The name of a peer = `count` clips at that library's positions; see
            `peer_clips`.
        count: see above; a single even view is the centre clip.
        crops: per clip; see `evaluation_transform`.
        three: rule of three crops; see `ThreeCrop`.
        orders: frame orders in which each view is evaluated: all views in the first order, then all in the
            second. "frames_reversed" reverses each clip, "units_reversed" the sections of a video (V4D,
            section 4.4); "..._shuffled" draws an order for each clip, or for each view's sections; "still"
            repeats the middle frame of each clip. Reversed optical flow is also negated; in the other orders
            each field keeps its motion, so that "still" is a steady motion.
        seed: for random positions and shuffles; combined with each video's index.
    """

    places: Places = "even"
    count: int = 1
    crops: Crops = 1
    three: ThreeCrops = "transfer3d"
    orders: tuple[FrameOrder, ...] = ("forward",)
    seed: int = 0

    def views_of_a_video(self, clip: ClipSpec) -> int | None:
        """Returns the number of views per video; None if it depends on the video."""
        if self.places == "windows" or (self.places == "cover" and clip.units == 1):
            return None
        together = self.places == "cover" or (self.places == "units" and clip.units > 1)
        return self.crops * len(self.orders) * (1 if together else self.count)

    def clips_of_a_view(self, clip: ClipSpec) -> int:
        """Returns the number of clips per view: U for a video-level family, else 1."""
        return self.count if self.places == "units" and clip.units > 1 else clip.units

    def indices(
        self, frames: int, fps: float, clip: ClipSpec, *, number: int = 0
    ) -> tuple[Indices, NDArray[np.int64]]:
        """Returns frame indices [V, T], or [V, U, T] for the video-level families, and each view's scale [V].

        Args:
            frames: number of frames of the video.
            fps: frames per second, for "windows".
            clip: the student's input.
            number: index of the video, for random values.
        """
        scales = [temporal_windows(frames, fps or UNKNOWN_FPS)] if self.places == "windows" else []
        scale_V = [scale for windows in scales for scale, row in enumerate(windows) for _ in row]
        if scales:
            spans = [span for row in scales[0] for span in row]
            views = np.stack([start + _even(taken, clip, 1)[0] for start, taken in spans])
        elif self.places == "random":
            rng = np.random.default_rng((self.seed, number))
            views = np.stack([training_clip(frames, clip, rng) for _ in range(self.count)])
        elif self.places == "units":
            views = action_units(frames, length=clip.frames, stride=clip.stride, units=self.count)
            views = views[None] if clip.units > 1 else views
        elif self.places in get_args(Peer):
            peer = cast(Peer, self.places)
            views = peer_clips(peer, frames, length=clip.frames, stride=clip.stride, count=self.count)
        elif self.places == "cover" and clip.units == 1:
            views = cover_clips(frames, length=clip.frames, stride=clip.stride)
        else:
            views = _even(frames, clip, 1 if self.places == "cover" else self.count)
        scale_V = scale_V or [0] * len(views)
        rows = [_in_order(views, order, seed=(self.seed, number, SHUFFLES)) for order in self.orders]
        return np.concatenate(rows), np.array(scale_V * len(self.orders))


def _in_order(views: Indices, order: FrameOrder, *, seed: tuple[int, ...]) -> Indices:
    """Returns views [V, T] or [V, U, T] with their frames or their units in another order."""
    rng = np.random.default_rng(seed)
    if order == "frames_reversed":
        return views[..., ::-1]
    if order == "frames_shuffled":
        return rng.permuted(views, axis=-1)
    if order == "still":
        middle = views.shape[-1] // 2
        return np.broadcast_to(views[..., middle : middle + 1], views.shape)
    if order == "units_reversed":
        return views[:, ::-1]
    if order == "units_shuffled":
        return np.stack([rng.permutation(units) for units in views])
    return views


def _even(frames: int, clip: ClipSpec, count: int) -> Indices:
    """Returns evenly spaced views; those of a video-level family are shifted within its sections."""
    if clip.units == 1:
        return even_clips(frames, length=clip.frames, stride=clip.stride, count=count)
    places = [(number + 0.5) / count for number in range(count)]
    return np.stack(
        [
            action_units(frames, length=clip.frames, stride=clip.stride, units=clip.units, place=place)
            for place in places
        ]
    )


@dataclass(frozen=True)
class Views:
    """Views of one or several videos; frames shared by views are stored once.

    Attributes:
        frames_u8: RGB [N, C, H, W] uint8, the distinct frames, cropped.
        indices: [V, T] or [V, U, T] int64, the frames of each view.
        scale_V: int64; index of the window length of each view, 0 if there is only one.
    """

    frames_u8: Tensor
    indices: Tensor
    scale_V: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def clips(self, first: int = 0, last: int | None = None) -> Tensor:
        """Returns some views as [V, C, T, H, W] or [V, U, C, T, H, W], uint8."""
        return self.frames_u8[self.indices[first:last]].transpose(-4, -3).contiguous()


def join_views(parts: Sequence[Views]) -> Views:
    """Concatenates the views of several videos."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(len(part.frames_u8) for part in parts[:-1])]).tolist()
    return Views(
        torch.cat([part.frames_u8 for part in parts]),
        torch.cat([part.indices + offset for part, offset in zip(parts, offsets, strict=True)]),
        torch.cat([part.scale_V for part in parts]),
    )
