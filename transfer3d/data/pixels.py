"""Decoded frames to RGB: scaled in YUV, converted, upright."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


class Converter:
    """Converts the frames of one video; keeps FFmpeg's tables from one to the next."""

    def __init__(self) -> None:
        self._scaler, self._converter = VideoReformatter(), VideoReformatter()

    def rgb(self, frame: VideoFrame, short_side: int | None = None) -> Frames:
        """Returns RGB [H, W, 3], upright.

        Args:
            frame: as decoded.
            short_side: a frame with a longer short side is scaled down to it, with antialiasing.
        """
        height, width = _scaled(frame.height, frame.width, short_side)
        levels = frame.color_range
        picture = frame
        # FFmpeg converts a frame that keeps its size three times faster than one that it scales on the way.
        if (height, width) != (frame.height, frame.width) and frame.format.name.startswith("yuv"):
            picture = self._scaler.reformat(
                frame, width, height, interpolation=Interpolation.BILINEAR, src_color_range=levels,
                dst_color_range=levels, threads=1,
            )  # fmt: skip
        picture = self._converter.reformat(
            picture, width, height, format="rgb24", interpolation=Interpolation.BILINEAR,
            src_color_range=levels, threads=1,
        )  # fmt: skip
        pixels = picture.to_ndarray().astype(np.uint8, copy=False)
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return pixels if matrix is None else _upright(pixels, np.frombuffer(matrix, np.int32))


def _scaled(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Returns height and width with the short side brought down to `short_side`."""
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return max(round(height * short_side / short), 1), max(round(width * short_side / short), 1)


def _upright(pixels: Frames, matrix: NDArray[np.int32]) -> Frames:
    """Applies a display matrix of quarter turns and mirrors: x' = a x + c y, y' = b x + d y."""
    a, b, _, c, d = matrix[:5].tolist()
    if abs(a) >= abs(b):
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
    turned = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(turned[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1])
