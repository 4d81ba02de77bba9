"""Selects the frames of a batch of clips that an image teacher sees."""

from __future__ import annotations

import torch
from torch import Tensor


def spread_frames(clips: Tensor, count: int | None) -> Tensor:
    """Returns evenly spaced frames of clips: the middle ones of `count` equal sections; None = all frames.

    Args:
        clips: B C T H W or B U C T H W.
        count: from 1 to T.
    """
    if count is None:
        return clips
    frames = clips.shape[-3]
    middles = [(2 * section + 1) * frames // (2 * count) for section in range(count)]
    return clips[..., middles, :, :]


def distinct_frames(frames_NCHW: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns the distinct frames, and the index of each frame among them; None if all are distinct.

    A video that is shorter than a clip repeats frames, and two clips of one video may share some. On a GPU
    frames are not compared: a batch size that varies from step to step costs more there than it saves.

    Args:
        frames_NCHW: uint8.
    """
    if frames_NCHW.device.type != "cpu":
        return frames_NCHW, None
    places: dict[bytes, int] = {}
    index = [places.setdefault(frame.numpy().tobytes(), len(places)) for frame in frames_NCHW]
    if len(places) == len(index):
        return frames_NCHW, None
    first = {place: number for number, place in reversed(list(enumerate(index)))}
    return frames_NCHW[[first[place] for place in range(len(places))]], torch.tensor(index)
