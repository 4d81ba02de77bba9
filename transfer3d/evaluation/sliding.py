"""A sliding window over a stream of frames; only one window's frames are in memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transfer3d.data.augment import crop_frames, evaluation_transform
from transfer3d.data.pixels import Frames
from transfer3d.data.views import ViewPlan, Views
from transfer3d.errors import UsageError
from transfer3d.layout import RGB_CHANNELS, ClipSpec

Timed = tuple[float, float, Frames]
"""A frame: start and known end of its display in seconds, and RGB [H, W, 3] uint8."""

ROUNDING_S = 1e-6  # rounding error of computed times


@dataclass(frozen=True)
class Window:
    """An interval of a stream, and its clips.

    Attributes:
        start_s: seconds, on the stream's own clock.
        end_s: seconds.
        views: evenly spaced clips.
    """

    start_s: float
    end_s: float
    views: Views


class SlidingWindow:
    """Takes frames one by one, crops them immediately, and yields the windows that they complete.

    A window is evaluated as if it were a separate video: by clips from its first frame to its last. Windows
    begin at the first frame and then every `stride_s`; a window without frames is skipped.

    Args:
        clip: the student's input.
        window_s: length of a window, seconds.
        stride_s: from the start of one window to the start of the next, seconds.
        clips: per window; None = as many as cover it, or one view of all action units.

    Attributes:
        held: the buffered frames, [3, size, size] each, with their times.
    """

    def __init__(self, clip: ClipSpec, *, window_s: float, stride_s: float, clips: int | None = None) -> None:
        self._clip, self._window_s, self._stride_s, self._clips = clip, window_s, stride_s, clips
        self._transform = evaluation_transform(clip)
        self._first_s: float | None = None
        self._last_s = self._until_s = 0.0
        self._gap_s = 0.0  # between the last two frames
        self._number = 0  # of the next window
        self._covered_s = -math.inf  # end of the last one
        self.held: deque[tuple[float, Tensor]] = deque()

    def push(self, frame: Timed) -> Iterator[Window]:
        """Takes a frame, and yields the windows completed by this frame."""
        time_s, self._until_s, pixels = frame
        if self._first_s is None:
            self._first_s = self._last_s = time_s
        self._gap_s, self._last_s = time_s - self._last_s, time_s
        self.held.append((time_s, crop_frames(self._transform, pixels[None])[0][0]))
        yield from self._complete(self._until_s)

    def finish(self) -> Iterator[Window]:
        """Yields the remaining windows at the stream's end; the last window always ends there.

        The last frame with a given time is assumed to last as long as the one before it.
        """
        if self._first_s is None:
            return
        end_s = max(self._until_s, self._last_s + self._gap_s)
        yield from self._complete(end_s)
        if self._covered_s < end_s - ROUNDING_S:
            start_s = max(end_s - self._window_s, self._first_s)
            if inside := self._shown(start_s, math.inf):
                yield self._window(start_s, end_s, inside)

    def _complete(self, until_s: float) -> Iterator[Window]:
        assert self._first_s is not None
        while True:
            start_s = self._first_s + self._number * self._stride_s
            end_s = start_s + self._window_s
            if end_s > until_s + ROUNDING_S:
                break
            if inside := self._shown(start_s, end_s):
                yield self._window(start_s, end_s, inside)
            else:  # the stream may have paused for days
                next_s = next((time_s for time_s, _ in self.held if time_s >= start_s), end_s)
                before = math.floor((next_s - self._window_s - self._first_s) / self._stride_s)
                self._number = max(self._number, before - 1)
            self._number += 1
        # Only the last window may begin as early as this.
        while self.held and self.held[0][0] < until_s - self._window_s - ROUNDING_S:
            self.held.popleft()

    def _shown(self, start_s: float, end_s: float) -> list[Tensor]:
        """Returns the frames that are first displayed in [start, end)."""
        return [frame for time_s, frame in self.held if start_s - ROUNDING_S <= time_s < end_s - ROUNDING_S]

    def _window(self, start_s: float, end_s: float, frames: Sequence[Tensor]) -> Window:
        covering = -(-len(frames) // self._clip.window) if self._clip.units == 1 else 1
        plan = ViewPlan(count=self._clips or covering)
        indices, scale_V = plan.indices(len(frames), 0, self._clip)
        distinct, place = np.unique(indices, return_inverse=True)
        frames_u8 = torch.stack([frames[number] for number in distinct])
        views = Views(frames_u8, torch.from_numpy(place.reshape(indices.shape)), torch.from_numpy(scale_V))
        self._covered_s = end_s
        return Window(start_s, end_s, views)


def timed(
    frames: Iterable[Frames] | Iterable[tuple[float, Frames]], fps: float | None, channels: int = RGB_CHANNELS
) -> Iterator[Timed]:
    """Yields frames with their times, checked.

    Args:
        frames: RGB [H, W, 3] uint8, or without `fps` pairs (seconds, frame) with increasing times.
        fps: frames per second; None = frames have their own times.
        channels: 3; 2 for optical flow.

    Raises:
        UsageError: a frame has another form, or its time is not later than the one before.
    """
    before_s = -math.inf
    for number, item in enumerate(frames):
        if fps is not None:
            yield number / fps, (number + 1) / fps, _checked(item, number, channels)
            continue
        if not isinstance(item, tuple) or len(item) != 2:
            raise UsageError(f"frame {number} has no time. Give fps, or pairs (seconds, frame).")
        time_s, pixels = item
        if not before_s < time_s < math.inf:
            raise UsageError(
                f"frame {number} has time {time_s} s, not later than the one before ({before_s} s)."
            )
        yield float(time_s), float(time_s), _checked(pixels, number, channels)
        before_s = time_s


def _checked(pixels: object, number: int, channels: int) -> Frames:
    frame = np.ascontiguousarray(np.asarray(pixels))  # torch does not support flipped views, as of BGR
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != channels or not frame.size:
        expected = "uint8 [H, W, 3] in RGB" if channels == RGB_CHANNELS else f"uint8 [H, W, {channels}]"
        raise UsageError(f"frame {number} is {frame.dtype} {list(frame.shape)}, not {expected}.")
    return frame


def windows_of(sliding: SlidingWindow, frames: Iterable[Timed]) -> Iterator[Window]:
    """Yields the windows of a stream, each as soon as it is complete."""
    for frame in frames:
        yield from sliding.push(frame)
    yield from sliding.finish()
