"""Optical flow: the motion of each pixel to the next frame, as two 8-bit planes.

`x` is the motion to the right, `y` down, in pixels per frame. Both are clipped to +-`bound` and mapped
linearly to 0..255, as in TSN ("we discretize optical flow fields into the interval from 0 to 255 by a linear
transformation", Wang et al., ECCV 2016), so that 127.5 means no motion and 255 - x is -x. N frames give N - 1
fields: field i is the motion from frame i to frame i + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from transfer3d.data.container import BadVideo
from transfer3d.data.pixels import Frames
from transfer3d.errors import SetupError

Algorithm = Literal["tvl1", "dis"]
LEVELS = 255
BOUND = 20.0  # pixels per frame, TSN's
EXTRA = "Optical flow needs OpenCV: install it with `pip install 'transfer3d[flow]'`."


class FlowFormat(BaseModel):
    """How the flow of a set of videos was computed.

    Attributes:
        algorithm: "tvl1" (Zach et al., 2007: TSN's), "dis" (Kroeger et al., 2016: much faster), or "files":
            read from image files, algorithm unknown.
        bound: pixels per frame that 0 and 255 represent.
        short_side: short side of the frames from which it was computed; None = the original size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["tvl1", "dis", "files"]
    bound: float = Field(default=BOUND, gt=0, allow_inf_nan=False)
    short_side: int | None = None

    def __str__(self) -> str:
        size = "" if self.short_side is None else f" at short side {self.short_side}"
        return f"{self.algorithm}{size}, +-{self.bound:g} pixels"


def quantise(flow: NDArray[np.float32], bound: float) -> Frames:
    """Converts flow [..., 2] in pixels per frame to uint8; see the module."""
    return np.rint((np.clip(flow, -bound, bound) + bound) * (LEVELS / (2 * bound))).astype(np.uint8)


def import_opencv() -> Any:
    """Returns the module cv2, with TV-L1.

    Raises:
        SetupError: it is not installed, or without its contributed modules.
    """
    try:
        import cv2
    except ImportError:
        raise SetupError(EXTRA) from None
    if not hasattr(cv2, "optflow"):
        raise SetupError(f"This OpenCV ({cv2.__version__}) has no TV-L1. {EXTRA}")
    return cv2


def flow_planes(frames: Iterable[Frames], flow: FlowFormat, *, name: str) -> Iterator[Frames]:
    """Yields the flow between neighbouring frames, [H, W, 2] uint8, x before y.

    Args:
        frames: RGB [H, W, 3] uint8, of one size.
        flow: how it is computed; not "files".
        name: name of the video, for messages.

    Raises:
        SetupError: OpenCV is not installed.
        BadVideo: the frames' size changes, or they are too small for the algorithm.
    """
    cv2 = import_opencv()
    compute = _algorithm(cv2, flow.algorithm)
    grey = (cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in frames)
    for before, after in pairwise(grey):
        if before.shape != after.shape:
            raise BadVideo(f"{name}: the size of its frames changes, so there is no flow between them")
        try:
            yield quantise(compute(before, after), flow.bound)
        except cv2.error as error:
            height, width = before.shape
            reason = f"{flow.algorithm} fails on frames of {height}x{width} pixels ({error.err})"
            raise BadVideo(f"{name}: {reason}") from None


def _algorithm(cv2: Any, name: str) -> Callable[[Frames, Frames], NDArray[np.float32]]:
    """Returns a function from two grey frames [H, W] to flow [H, W, 2], with OpenCV's default parameters."""
    if name == "tvl1":
        tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()
        return lambda before, after: tvl1.calc(before, after, None)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda before, after: dis.calc(before, after, None)
