"""Optical flow as colours, so that its clips can be looked at like others."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from transfer3d.layout import FLOW_CHANNELS

MIDDLE = 127.5
BRIGHT = 0.25  # of the largest motion that can be stored: most are far smaller


def frame_as_rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a frame [H, W, C] in RGB; see `as_rgb`."""
    return np.ascontiguousarray(as_rgb(frame.transpose(2, 0, 1)[:, None])[:, 0].transpose(1, 2, 0))


def as_rgb(clip_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a clip [..., C, T, H, W] in RGB; of flow the direction as hue, white where nothing moves.

    Args:
        clip_u8: RGB, which stays as it is, or optical flow as `transfer3d.data.flow` stores it.
    """
    if clip_u8.shape[-4] != FLOW_CHANNELS:
        return clip_u8
    x, y = np.moveaxis(clip_u8.astype(np.float32) / MIDDLE - 1, -4, 0)
    hue = np.arctan2(y, x) / (2 * np.pi) % 1
    colour = np.clip(np.hypot(x, y) / BRIGHT, 0, 1)
    rgb = hsv_to_rgb(np.stack([hue, colour, np.ones_like(hue)], axis=-1))
    return np.moveaxis((255 * rgb).round().astype(np.uint8), -1, -4)
