"""The layers between two dense blocks: T3D's temporal transition and DenseNet3D's plain transition.

Paper: Diba et al., "Temporal 3D ConvNets", arXiv:1711.08200, section 3.1, figure 1 and table 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.convolution import conv3d
from transfer3d.nn.pooling import halve


class Transition(nn.Module):
    """BatchNorm, ReLU, 1x1x1 convolution, 2x2x2 average pool (DenseNet3D)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(in_channels)
        self.conv = conv3d(in_channels, out_channels, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' ceil(T/2) H//2 W//2`."""
        return halve(self.conv(F.relu(self.norm(x), inplace=True)))


class TemporalTransition(nn.Module):
    """BatchNorm, ReLU, parallel convolutions of three temporal depths, 2x2x2 average pool (TTL).

    The paper gives the depths (1, 3, d) but no widths. Here both deep branches have `branch_width`
    channels and the 1x1x1 branch has the rest, so that the layer is as wide as the transition it replaces.

    Args:
        in_channels: number of channels of the dense block before it.
        out_channels: number of channels of the three branches together; more than 2 * branch_width.
        branch_width: channels of each deep branch, the net's growth rate.
        depth: d, temporal depth of the last branch; it covers (d - 1) // 2 frames before and d // 2 after.
    """

    def __init__(self, in_channels: int, out_channels: int, *, branch_width: int, depth: int) -> None:
        super().__init__()
        plain_width = out_channels - 2 * branch_width
        if plain_width < 1:
            raise ValueError(
                f"{out_channels} channels leave none for the 1x1x1 branch beside two of {branch_width}"
            )
        self.norm = nn.BatchNorm3d(in_channels)
        self.branches = nn.ModuleList(
            (
                conv3d(in_channels, plain_width, (1, 1, 1)),
                conv3d(in_channels, branch_width, (3, 3, 3)),
                conv3d(in_channels, branch_width, (depth, 3, 3)),
            )
        )

    def convolutions(self) -> list[nn.Conv3d]:
        """The three branches, the 1x1x1 first."""
        return [branch for branch in self.branches if isinstance(branch, nn.Conv3d)]

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' ceil(T/2) H//2 W//2`."""
        x = F.relu(self.norm(x), inplace=True)
        return halve(torch.cat([branch(x) for branch in self.branches], 1))
