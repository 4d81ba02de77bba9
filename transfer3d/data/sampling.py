"""Samples the frames of clips: pure functions of (frames, length, stride, rng).

All return frame indices, int64, in [0, frames). A clip of `length` frames at `stride` spans a window of
`(length - 1) * stride + 1` source frames. If a video is shorter than this window, the clip starts at frame 0
and repeats the last frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer3d.data.augment_config import Sampling
from transfer3d.layout import ClipSpec, section_bounds

Indices = NDArray[np.int64]
Window = tuple[int, int]
WINDOWS_S = (1.0, 2.0, 4.0, 8.0, 16.0)


def random_clip(frames: int, *, length: int, stride: int, rng: np.random.Generator) -> Indices:
    """Returns one clip [T] whose start is uniform over all starts that fit."""
    return _clips(rng.integers(_room(frames, length, stride) + 1), frames, length, stride)


def centre_clip(frames: int, *, length: int, stride: int) -> Indices:
    """Returns the centre clip [T] (half a frame early if it cannot be exact)."""
    return _clips(_room(frames, length, stride) // 2, frames, length, stride)


def even_clips(frames: int, *, length: int, stride: int, count: int) -> Indices:
    """Returns `count` evenly spaced clips [N, T] from the first to the last start; one is the centre clip."""
    if count == 1:
        return centre_clip(frames, length=length, stride=stride)[None]
    starts = np.linspace(0, _room(frames, length, stride), count)
    return _clips(np.floor(starts + 0.5), frames, length, stride)


def cover_clips(frames: int, *, length: int, stride: int) -> Indices:
    """Returns the non-overlapping clips [N, T] that tile the video, at least one (T3D, section 4.2, testing).

    Each covers `length * stride` frames; a shorter rest at the end is omitted.
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

    A clip lies within its section: with `rng` (training) at a random start, without (testing) at `place`, a
    share of the possible starts in the section. If the window is longer than a section, the possible starts
    in the video are divided evenly instead, and each clip uses one from its part; clips repeat only if there
    are fewer starts than clips.
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

    Windows slide by 0.8 of their length; if it exceeds the video's, there is one window, the whole video.

    Args:
        frames: number of frames of the video.
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
    """Returns the frame indices of a training clip: [T], or [U, T] for the video-level families.

    Args:
        frames: number of frames of the video.
        clip: the student's input.
        rng: source of all randomness.
        sampling: for single clips: random, or one of `cover_clips` (P3D, section 3.3).
    """
    if clip.units > 1:
        return action_units(frames, length=clip.frames, stride=clip.stride, units=clip.units, rng=rng)
    if sampling == "cover":
        return rng.choice(cover_clips(frames, length=clip.frames, stride=clip.stride))
    return random_clip(frames, length=clip.frames, stride=clip.stride, rng=rng)


def _room(frames: int, length: int, stride: int) -> int:
    """Returns the last possible start of the window, 0 for a short video."""
    if frames < 1:
        raise ValueError(f"frames={frames}: a video has at least one")
    return max(frames - ((length - 1) * stride + 1), 0)


def _clips(starts: ArrayLike, frames: int, length: int, stride: int) -> Indices:
    """Returns [..., T]; indices past the end repeat the last frame."""
    indices = np.asarray(starts, dtype=np.int64)[..., None] + np.arange(length) * stride
    return np.minimum(indices, frames - 1)
