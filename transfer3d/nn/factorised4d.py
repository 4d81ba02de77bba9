"""F4D's residual block: a 4D convolution factorised into (U, H, W) and T, then attention.

Paper: Al-Saad, Ramaswamy, Bhandarkar, "F4D: Factorized 4D Convolutional Neural Network for Efficient
Video-Level Representation Learning", 2024, sections 3.3 to 3.5 and figure 1.

Differences from the paper's text are listed in `transfer3d.models.f4d`.
"""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.attention import Attention
from transfer3d.nn.conv4d import Conv4d, Quadruple
from transfer3d.nn.convolution import conv3d
from transfer3d.nn.residual4d import ChannelScale
from transfer3d.nn.units import AcrossUnits, fold_units, unfold_units


def intermediate_channels(in_channels: int, out_channels: int, kernel: Quadruple) -> int:
    """Returns M, for which the factors have as many parameters as the full kernel, to within one filter."""
    temporal, spatial = kernel[1], kernel[0] * kernel[2] * kernel[3]
    return prod(kernel) * in_channels * out_channels // (spatial * in_channels + temporal * out_channels)


class Factorised4d(nn.Module):
    """The (3+1)D convolution of section 3.3: (U, H, W) to M channels, BN, ReLU, then T."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Quadruple = (3, 3, 3, 3)) -> None:
        super().__init__()
        ku, kt, kh, kw = kernel
        between = intermediate_channels(in_channels, out_channels, kernel)
        self.spatial = Conv4d(in_channels, between, (ku, 1, kh, kw))
        self.norm = nn.BatchNorm3d(between)
        self.temporal = conv3d(between, out_channels, (kt, 1, 1))

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to `B*U C' T H W`."""
        between = fold_units(self.spatial(unfold_units(x, units)))
        return self.temporal(F.relu(self.norm(between)))


class FactorisedBlock(AcrossUnits):
    """y = x + s * attention(dropout(ReLU(BN(expand(factorised(reduce(x))))))).

    Args:
        channels: C, of input and output.
        width: the factors' channels as a share of C; None for all of C, without reduction and expansion.
        attention: see `Attention`.
        drop_rate: dropout of the branch.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: float | None = 3 / 32,
        attention: str = "ta+ca+sta",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        inner = channels if width is None else max(1, int(channels * width))
        self.reduce = nn.Identity() if width is None else conv3d(channels, inner, (1, 1, 1))
        self.factorised = Factorised4d(inner, inner)
        self.expand = nn.Identity() if width is None else conv3d(inner, channels, (1, 1, 1))
        self.norm = nn.BatchNorm3d(channels)
        self.dropout = nn.Dropout(drop_rate)
        self.attention = Attention(channels, attention)
        self.scale = ChannelScale(channels)

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same; the `units` units of a video are consecutive."""
        branch = self.expand(self.factorised(self.reduce(x), units))
        branch = self.dropout(F.relu(self.norm(branch)))
        return x + self.scale(self.attention(branch, units))
