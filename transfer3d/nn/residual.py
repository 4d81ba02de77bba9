"""Residual blocks: a chain of convolutions, optionally with squeeze-and-excitation, and a shortcut."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.layout import Triple
from transfer3d.nn.convolution import ConvNorm, conv3d
from transfer3d.nn.pooling import average_frames, average_pairs


class SqueezeExcite(nn.Module):
    """Channel attention over a whole clip (Hu et al., arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = conv3d(channels, squeezed, (1, 1, 1), bias=True)
        self.fc2 = conv3d(squeezed, channels, (1, 1, 1), bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Reweights the channels of `B C T H W`."""
        squeezed = F.relu(self.fc1(x.mean((2, 3, 4), keepdim=True)))
        return x * self.fc2(squeezed).sigmoid()


class Shortcut(nn.Module):
    """The shortcut of a block that changes size: 1x1x1 convolution and BatchNorm.

    With `average` (timm's `d` nets) an average pool before the convolution strides instead.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Triple, *, average: bool) -> None:
        super().__init__()
        pooled = average and max(stride) > 1
        self.pooled = stride if pooled else (1, 1, 1)
        conv_stride = (1, 1, 1) if pooled else stride
        self.project = ConvNorm(in_channels, out_channels, (1, 1, 1), stride=conv_stride, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to the size of the block's output."""
        depth, size, _ = self.pooled
        x = average_frames(x, size, ceil_mode=True) if size > 1 else x
        return self.project(average_pairs(x) if depth > 1 else x)


class Residual(nn.Module):
    """ReLU(units(x) + shortcut(x)) (He et al., arXiv:1512.03385).

    Args:
        units: the convolutions in order, each with its norm; the last one without ReLU.
        shortcut: None for the identity.
        squeeze: reweights the channels of the units' output.
    """

    def __init__(
        self,
        units: Sequence[nn.Module],
        shortcut: Shortcut | None = None,
        squeeze: SqueezeExcite | None = None,
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.se = squeeze if squeeze is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' T' H' W'`."""
        y = x
        for unit in self.units:
            y = unit(y)
        y = self.se(y)
        y += self.shortcut(x)  # in place: no gradient needs y, and a CPU is bound by memory traffic
        return F.relu(y, inplace=True)
