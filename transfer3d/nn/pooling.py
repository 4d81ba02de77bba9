"""Pools that halve a clip, and keep a last frame that has no partner: so any number of frames passes.

Space is pooled as the 2D net does it, time by itself: the result is that of one pool over both, and a still
clip is pooled exactly as an image is.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

PAIR = (2, 1, 1)


class TemporalMaxPool(nn.Module):
    """Maximum over pairs of frames."""

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C ceil(T/2) H W`."""
        return x if x.shape[2] == 1 else F.max_pool3d(x, PAIR, ceil_mode=True)


def average_pairs(x: Tensor) -> Tensor:
    """Averages pairs of frames: `B C T H W` to `B C ceil(T/2) H W`."""
    return x if x.shape[2] == 1 else F.avg_pool3d(x, PAIR, ceil_mode=True)


def halve(x: Tensor) -> Tensor:
    """Average-pools `B C T H W` by 2x2x2; an odd last row or column is left out, as timm's densenets do."""
    return average_pairs(F.avg_pool3d(x, (1, 2, 2)))
