"""Which frames of a video a clip is made of: pure functions of (frames, length, stride, rng).

All return frame indices, int64, in [0, frames). A clip of `length` frames at `stride` spans a window of
`(length - 1) * stride + 1` source frames. One policy for short videos everywhere: a video shorter than
its window starts at frame 0 and repeats its last frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer3d.layout import ClipSpec

Indices = NDArray[np.int64]
Views = int | Literal["cover", "windows"]
WINDOWS_S = (1.0, 2.0, 4.0, 8.0, 16.0)


def random_clip(frames: int, *, length: int, stride: int, rng: np.random.Generator) -> Indices:
    """Returns one clip [T] whose start is uniform over all starts that fit."""
    return _clips(rng.integers(_room(frames, length, stride) + 1), frames, length, stride)


def centre_clip(frames: int, *, length: int, stride: int) -> Indices:
    """Returns the clip [T] in the middle of the video (half a frame early where it cannot be exact)."""
    return _clips(_room(frames, length, stride) // 2, frames, length, stride)


def even_clips(frames: int, *, length: int, stride: int, count: int) -> Indices:
    """Returns `count` clips [N, T] evenly from the first to the last possible start; one is the centre."""
    if count == 1:
        return centre_clip(frames, length=length, stride=stride)[None]
    starts = np.linspace(0, _room(frames, length, stride), count)
    return _clips(np.floor(starts + 0.5), frames, length, stride)


def cover_clips(frames: int, *, length: int, stride: int) -> Indices:
    """Returns the non-overlapping clips [N, T] that tile the video, at least one (T3D, section 4.2, testing).

    Each takes `length * stride` frames; a shorter rest at the end is left out.
    """
    taken = length * stride
    starts = np.arange(max(frames // taken, 1)) * taken
    return _clips(starts, frames, length, stride)


def action_units(
    frames: int, *, length: int, stride: int, units: int, rng: np.random.Generator | None = None
) -> Indices:
    """Returns one clip from each of `units` equal sections of the video, [U, T] (V4D, section 3.1).

    With `rng` (training) a clip's centre is uniform in its section, without (testing) it is the section's
    centre. A clip may reach over its section, never over the video.
    """
    place = np.full(units, 0.5) if rng is None else rng.random(units)
    centres = (np.arange(units) + place) * frames / units
    window = (length - 1) * stride + 1
    starts = np.floor(centres - window / 2 + 0.5).clip(0, _room(frames, length, stride))
    return _clips(starts, frames, length, stride)


def temporal_windows(
    frames: int, fps: float, *, length: int, stride: int, seconds: Sequence[float] = WINDOWS_S
) -> Indices:
    """Returns a clip [N, T] from the centre of each window: TSN's multi-scale windows of untrimmed videos.

    Windows of each length slide by 0.8 of it; one longer than the video is the video, taken once.

    Args:
        frames: of the video.
        fps: its frames per second.
        length: frames of a clip.
        stride: distance of its frames.
        seconds: lengths of the windows.
    """
    windows: dict[tuple[int, int], None] = {}
    for window_s in seconds:
        taken = min(max(round(window_s * fps), 1), frames)
        step = max(round(0.8 * taken), 1)
        windows |= dict.fromkeys((start, taken) for start in range(0, frames - taken + 1, step))
    clips = [start + centre_clip(taken, length=length, stride=stride) for start, taken in windows]
    return np.stack(clips)


def training_clip(frames: int, clip: ClipSpec, rng: np.random.Generator) -> Indices:
    """Returns what a student trains on: [T], or [U, T] for the video-level families."""
    if clip.units > 1:
        return action_units(frames, length=clip.frames, stride=clip.stride, units=clip.units, rng=rng)
    return random_clip(frames, length=clip.frames, stride=clip.stride, rng=rng)


def evaluation_views(frames: int, clip: ClipSpec, views: Views, *, fps: float = 25.0) -> Indices:
    """Returns what a student is tested on: [N, T], or [1, U, T] for the video-level families.

    Args:
        frames: of the video.
        clip: of the student.
        views: that many clips evenly, "cover": all non-overlapping ones, or "windows": those of
            `temporal_windows`. A video-level family sees the whole video in one view.
        fps: frames per second, for "windows".
    """
    if clip.units > 1:
        return action_units(frames, length=clip.frames, stride=clip.stride, units=clip.units)[None]
    if views == "cover":
        return cover_clips(frames, length=clip.frames, stride=clip.stride)
    if views == "windows":
        return temporal_windows(frames, fps, length=clip.frames, stride=clip.stride)
    return even_clips(frames, length=clip.frames, stride=clip.stride, count=views)


def _room(frames: int, length: int, stride: int) -> int:
    """Returns the last start at which the window still fits, 0 for a short video."""
    if frames < 1:
        raise ValueError(f"frames={frames}: a video has at least one")
    return max(frames - ((length - 1) * stride + 1), 0)


def _clips(starts: ArrayLike, frames: int, length: int, stride: int) -> Indices:
    """Returns [..., T]; indices past the end repeat the last frame."""
    indices = np.asarray(starts, dtype=np.int64)[..., None] + np.arange(length) * stride
    return np.minimum(indices, frames - 1)
