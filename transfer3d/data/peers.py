"""Test clip positions of other libraries, implemented from their rules; docs/peers.md compares them.

Each library's clips cover different parts of the video, with different rounding.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from transfer3d.data.sampling import Indices

Peer = Literal["slowfast", "mmaction2", "pytorchvideo"]


def peer_clips(peer: Peer, frames: int, *, length: int, stride: int, count: int) -> Indices:
    """Returns frame indices [N, T], int64, of `count` clips from `frames` frames, by a peer's rule."""
    rule = {"slowfast": _slowfast, "mmaction2": _mmaction2, "pytorchvideo": _pytorchvideo}[peer]
    return np.stack(rule(frames, length, stride, count))


def _slowfast(frames: int, length: int, stride: int, count: int) -> list[Indices]:
    """SlowFast, `datasets/decoder.py`: clip i starts at i / count of the range of starts, not rounded.

    A clip spans length * stride frames; its frames are evenly spaced over them, and truncated to integers.
    The last clip therefore ends before the video does.
    """
    window = length * stride
    starts = [max(frames - window, 0) * index / count for index in range(count)]
    return [_spread(start, start + window - 1, length, frames) for start in starts]


def _mmaction2(frames: int, length: int, stride: int, count: int) -> list[Indices]:
    """mmaction2, `SampleFrames(test_mode=True)`: like ours, but starts are rounded half to even.

    A video that is too short is looped, where ours repeats its last frame.
    """
    room = max(frames - ((length - 1) * stride + 1), 0)
    starts = np.round(np.arange(count) * (room / (count - 1))) if count > 1 else np.array([room // 2])
    return [(int(start) + np.arange(length) * stride) % frames for start in starts]


def _pytorchvideo(frames: int, length: int, stride: int, count: int) -> list[Indices]:
    """pytorchvideo, `ConstantClipsPerVideoSampler` of length * stride frames, `UniformTemporalSubsample`.

    Starts are SlowFast's, in exact time; among the frames from the clip's start to its end, both included,
    `length` are selected evenly. For a short video they are spaced over all of it.
    """
    window, clips = length * stride, []
    for index in range(count):
        start = Fraction(max(frames - window, 0) * index, count)
        first, last = math.ceil(start), min(math.floor(start + window), frames - 1)
        clips.append(first + _spread(0, last - first, length, last - first + 1))
    return clips


def _spread(first: float, last: float, length: int, frames: int) -> Indices:
    """Returns evenly spaced indices from first to last, truncated; in fp32 by torch, like theirs."""
    return torch.linspace(first, last, length).clamp(0, frames - 1).long().numpy()
