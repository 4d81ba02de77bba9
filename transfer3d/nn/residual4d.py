"""V4D's residual block: adds to each unit a 4D convolution over the units of its video.

Paper: Zhang et al., "V4D: 4D Convolutional Neural Networks for Video-level Representation Learning",
ICLR 2020, section 3.3, equation (3) and figure 1.

Differs from the paper: the branch has a learnt per-channel scale, initially zero, so that a new block is
exactly the identity and still learns. A zero BatchNorm weight before a ReLU would never learn: its gradient
and the convolution's would stay zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.conv4d import Conv4d, Quadruple
from transfer3d.nn.units import AcrossUnits, fold_units, unfold_units


class ChannelScale(nn.Module):
    """Multiplies each channel by a learnt number, initially zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to the same."""
        return x * self.weight.to(x.dtype).view(-1, 1, 1, 1)


class Residual4d(AcrossUnits):
    """y = x + s * ReLU(BN(Conv4d(x))).

    Args:
        channels: number of input and output channels.
        kernel: (U, T, H, W).
        norm_act: False gives y = x + Conv4d(x) as in the released code, with an initially zero kernel.
    """

    def __init__(self, channels: int, kernel: Quadruple = (3, 3, 1, 1), *, norm_act: bool = True) -> None:
        super().__init__()
        self.conv = Conv4d(channels, channels, kernel)
        self.norm = nn.BatchNorm3d(channels) if norm_act else None
        self.scale = ChannelScale(channels) if norm_act else None
        if not norm_act:
            nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same; the `units` units of a video are consecutive."""
        return x + self.activate(fold_units(self.conv(unfold_units(x, units))))

    def activate(self, convolved: Tensor) -> Tensor:
        """Applies BatchNorm, ReLU and scale to the convolution's output, `N C T H W`."""
        if self.norm is None or self.scale is None:
            return convolved
        return self.scale(F.relu(self.norm(convolved)))
