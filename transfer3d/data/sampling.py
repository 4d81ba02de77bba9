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

from transfer3d.layout import ClipSpec, section_bounds

Indices = NDArray[np.int64]
Window = tuple[int, int]
Sampling = Literal["random", "cover"]
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
    frames: int,
    *,
    length: int,
    stride: int,
    units: int,
    rng: np.random.Generator | None = None,
    place: float = 0.5,
) -> Indices:
    """Returns one clip from each of `units` equal sections of the video, [U, T] (V4D, section 3.1).

    A clip lies inside its section: with `rng` (training) at a random start there, without (testing) at
    `place`, a share of the room that the section leaves it. Where the window is longer than a section, the
    starts that fit the video are divided evenly instead, and each clip takes one from its part; clips repeat
    only where there are fewer starts than clips.
    """
    room = _room(frames, length, stride)
    window = (length - 1) * stride + 1
    numbers = np.arange(units)
    if window * units <= frames:
        bounds = np.array(section_bounds(frames, units))
        first, end = bounds[:-1], bounds[1:] - window + 1
        exact = (numbers + place) * frames / units - place * window + 0.5  # floor makes it the nearest
    else:
        bounds = np.array(section_bounds(room + 1, units))
        first, end = bounds[:-1], bounds[1:]
        exact = (numbers + place) * (room + 1) / units
    if rng is None or room + 1 < units:
        return _clips(np.floor(exact), frames, length, stride)
    return _clips(rng.integers(first, end), frames, length, stride)


def temporal_windows(frames: int, fps: float, *, seconds: Sequence[float] = WINDOWS_S) -> list[list[Window]]:
    """Returns (start, length) of TSN's multi-scale windows of an untrimmed video, by scale, in frames.

    Windows of each length slide by 0.8 of it; one longer than the video is the video, taken once.

    Args:
        frames: of the video.
        fps: its frames per second.
        seconds: lengths of the windows.
    """
    seen: set[Window] = set()
    scales = []
    for window_s in seconds:
        taken = min(max(round(window_s * fps), 1), frames)
        step = max(round(0.8 * taken), 1)
        windows = [(start, taken) for start in range(0, frames - taken + 1, step)]
        scales.append([window for window in windows if window not in seen])
        seen.update(windows)
    return [windows for windows in scales if windows]


def training_clip(
    frames: int, clip: ClipSpec, rng: np.random.Generator, sampling: Sampling = "random"
) -> Indices:
    """Returns what a student trains on: [T], or [U, T] for the video-level families.

    Args:
        frames: of the video.
        clip: what the student wants.
        rng: source of all randomness.
        sampling: of single clips: any, or one of `cover_clips` (P3D, section 3.3).
    """
    if clip.units > 1:
        return action_units(frames, length=clip.frames, stride=clip.stride, units=clip.units, rng=rng)
    if sampling == "cover":
        return rng.choice(cover_clips(frames, length=clip.frames, stride=clip.stride))
    return random_clip(frames, length=clip.frames, stride=clip.stride, rng=rng)


def _room(frames: int, length: int, stride: int) -> int:
    """Returns the last start at which the window still fits, 0 for a short video."""
    if frames < 1:
        raise ValueError(f"frames={frames}: a video has at least one")
    return max(frames - ((length - 1) * stride + 1), 0)


def _clips(starts: ArrayLike, frames: int, length: int, stride: int) -> Indices:
    """Returns [..., T]; indices past the end repeat the last frame."""
    indices = np.asarray(starts, dtype=np.int64)[..., None] + np.arange(length) * stride
    return np.minimum(indices, frames - 1)
