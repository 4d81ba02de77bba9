"""Converts decoded frames to RGB (scaled in YUV, rotated upright), and optical flow to and from frames."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from transfer3d.layout import FLOW_CHANNELS

Frames = NDArray[np.uint8]
FLOW_PIX_FMT = "yuvj444p"
NO_MOTION = 128


class Converter:
    """Converts the frames of one video; FFmpeg's scaling contexts are reused between frames."""

    def __init__(self) -> None:
        self._scaler, self._converter = VideoReformatter(), VideoReformatter()

    def rgb(self, frame: VideoFrame, short_side: int | None = None) -> Frames:
        """Returns RGB [H, W, 3], upright.

        Args:
            frame: a decoded frame.
            short_side: a frame with a longer short side is scaled down to it, with antialiasing.
        """
        height, width = _scaled(frame.height, frame.width, short_side)
        levels = frame.color_range
        # FFmpeg converts a frame of unchanged size three times faster than one that it also scales.
        picture = self._scale(frame, height, width) if frame.format.name.startswith("yuv") else frame
        picture = self._converter.reformat(
            picture, width, height, format="rgb24", interpolation=Interpolation.BILINEAR,
            src_color_range=levels, threads=1,
        )  # fmt: skip
        pixels = picture.to_ndarray().astype(np.uint8, copy=False)
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return pixels if matrix is None else _upright(pixels, np.frombuffer(matrix, np.int32))

    def flow(self, frame: VideoFrame, short_side: int | None = None) -> Frames:
        """Returns optical flow [H, W, 2], as stored by `flow_frame`; scaling does not change its values.

        Args:
            frame: a decoded frame.
            short_side: see `rgb`.

        Raises:
            ValueError: the frame does not contain flow.
        """
        if frame.format.name != FLOW_PIX_FMT:
            raise ValueError(f"its {frame.format.name} frames are not optical flow")
        frame = self._scale(frame, *_scaled(frame.height, frame.width, short_side))
        return np.moveaxis(frame.to_ndarray().astype(np.uint8, copy=False)[:FLOW_CHANNELS], 0, -1)

    def _scale(self, frame: VideoFrame, height: int, width: int) -> VideoFrame:
        if (height, width) == (frame.height, frame.width):
            return frame
        levels = frame.color_range
        return self._scaler.reformat(
            frame, width, height, interpolation=Interpolation.BILINEAR, src_color_range=levels,
            dst_color_range=levels, threads=1,
        )  # fmt: skip


def scaled_rgb(pixels: Frames, height: int, width: int) -> Frames:
    """Scales RGB [H, W, 3] to another size."""
    frame = VideoFrame.from_ndarray(pixels, format="rgb24")
    frame = frame.reformat(width, height, interpolation=Interpolation.BILINEAR)
    return frame.to_ndarray().astype(np.uint8, copy=False)


def flow_frame(planes: Frames) -> VideoFrame:
    """Returns optical flow [H, W, 2] as a frame: x in place of luma, y in place of blue, red unused.

    It has three planes of full size and full range, so that it is scaled like an image, per component.
    """
    unused = np.full((*planes.shape[:2], 1), NO_MOTION, np.uint8)
    frame_CHW = np.concatenate([planes, unused], axis=-1).transpose(2, 0, 1)
    return VideoFrame.from_ndarray(np.ascontiguousarray(frame_CHW), format=FLOW_PIX_FMT)


def _scaled(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Returns height and width with the short side reduced to at most `short_side`."""
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return max(round(height * short_side / short), 1), max(round(width * short_side / short), 1)


def _upright(pixels: Frames, matrix: NDArray[np.int32]) -> Frames:
    """Applies a display matrix of 90-degree rotations and reflections: x' = a x + c y, y' = b x + d y."""
    a, b, _, c, d = matrix[:5].tolist()
    if abs(a) >= abs(b):
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
    turned = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(turned[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1])
