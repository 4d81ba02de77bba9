"""Predictions from a stream of frames, such as a camera's: each as soon as its window is complete."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from transfer3d.data.pixels import Frames
from transfer3d.data.views import join_views
from transfer3d.errors import UsageError
from transfer3d.evaluation.micro_batches import MicroBatches
from transfer3d.evaluation.sliding import SlidingWindow, Window, timed, windows_of
from transfer3d.models.student import VideoStudent


@dataclass(frozen=True)
class Prediction:
    """The prediction for an interval of a stream.

    Attributes:
        start: seconds, on the stream's own clock.
        end: seconds.
        scores_K: probabilities of the classes, float32 on the CPU.
    """

    start: float
    end: float
    scores_K: Tensor


def stream(
    student: VideoStudent,
    frames: Iterable[Frames] | Iterable[tuple[float, Frames]],
    *,
    fps: float | None = None,
    window: float | None = None,
    stride: float | None = None,
    clips: int | None = None,
    together: int = 1,
) -> Iterator[Prediction]:
    """Yields predictions of a sliding window over a stream of frames, which may be endless.

    Each window is evaluated as `transfer3d predict` evaluates a video, and gets the scores of a video of just
    these frames. Windows begin every `stride` seconds from the first frame on; the last one ends with the
    stream. Only one window's frames, cropped to the student's size, are in memory. With `fps`, a window's
    prediction is yielded with its last frame, before another frame is read; without, a window is complete
    only when the first frame after it arrives.

    Args:
        student: with a classifier; put in eval mode. Clips go to its device, in its dtype; it may be fused,
            half precision, or compiled.
        frames: RGB [H, W, 3] uint8, or without `fps` pairs (seconds, frame) with increasing times; for a
            student of optical flow [H, W, 2].
        fps: frames per second; None = frames have their own times.
        window: length, seconds; None = the span of one clip (for a video-level student, of its consecutive
            action units), which needs `fps`.
        stride: from one window's start to the next, seconds; None = half a window.
        clips: evenly spaced clips per window, whose scores are averaged; None = as many as cover it.
        together: windows per forward pass: more are faster for frames from a file, but delay predictions
            from a camera.

    Raises:
        UsageError: a duration or `clips` is not positive, the student has no classifier, or a frame is not
            uint8 H W 3.
        SetupError: one clip does not fit into memory.
        NonFiniteError: a score is NaN.
    """
    spec = student.clip
    if student.num_classes == 0:
        raise UsageError("the student has no classifier. Train one with `transfer3d finetune`.")
    if fps is not None:
        _refuse_unless_positive(fps=fps)
        window = spec.units * spec.window / fps if window is None else window
    if window is None:
        raise UsageError("frames with their own times need `window`, its length in seconds.")
    stride = window / 2 if stride is None else stride
    _refuse_unless_positive(
        window=window, stride=stride, clips=1 if clips is None else clips, together=together
    )
    sliding = SlidingWindow(spec, window_s=window, stride_s=stride, clips=clips)
    return _predictions(student.eval(), windows_of(sliding, timed(frames, fps, spec.channels)), together)


def _refuse_unless_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UsageError(f"{name}={value}: give a number above 0.")


@torch.no_grad()
def _predictions(student: VideoStudent, windows: Iterator[Window], together: int) -> Iterator[Prediction]:
    device = next(student.parameters()).device
    micro_batches = MicroBatches(
        lambda clips_u8, _: student.probabilities(student(clips_u8).float()), student.clip, device
    )
    for batch in _batched(windows, together):
        views_of = [len(window.views) for window in batch]
        names = [f"{window.start_s:.2f} s" for window in batch for _ in range(len(window.views))]
        scores_VK = micro_batches(join_views([window.views for window in batch]), names)
        for window, views_VK in zip(batch, scores_VK.split(views_of), strict=True):
            yield Prediction(window.start_s, window.end_s, views_VK.mean(0))


def _batched(windows: Iterator[Window], count: int) -> Iterator[Sequence[Window]]:
    """Yields windows in groups of `count`, each as soon as it is full."""
    while group := list(islice(windows, count)):
        yield group
