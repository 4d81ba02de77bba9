"""GoogLeNet in 3D: every kxk convolution is kxkxk, and time is pooled less than space.

Papers: Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842, table 1 (shape); Carreira and
Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, figure 3 (time).

The 2D net is torchvision's: BatchNorm after every convolution, no bias, ceil-mode pools, and 3x3 where the
paper has 5x5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transfer3d.layout import Triple
from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.trunk import Trunk
from transfer3d.nn.convolution import ConvNorm
from transfer3d.nn.pooling import SpatialMaxPool, TemporalMaxPool

EPS = 1e-3  # torchvision's, of every BatchNorm
STEM = (64, 64, 192)
# 1x1; 3x3 reduce, 3x3; 5x5 reduce, "5x5"; pool's projection
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True, kw_only=True)
class GoogLeNetSpec(TrunkSpec):
    """The shape of a GoogLeNet.

    Attributes:
        divisor: of every width; 1 is the paper's net.
    """

    divisor: int = 1

    def __post_init__(self) -> None:
        if self.divisor not in (1, 2, 4, 8):
            raise ValueError(f"divisor {self.divisor}: 1, 2, 4 or 8 divide every width")

    def widths(self, name: str) -> tuple[int, ...]:
        """Widths of the stem or of an inception."""
        return tuple(width // self.divisor for width in (STEM if name == "stem" else INCEPTIONS[name]))

    @property
    def num_features(self) -> int:
        """Channels of the last inception."""
        return self.joined("inception5b")

    def joined(self, name: str) -> int:
        """Channels that an inception's four branches have together."""
        one, _, three, _, five, pooled = self.widths(name)
        return one + three + five + pooled


GOOGLENET = GoogLeNetSpec()
TEST_GOOGLENET = GoogLeNetSpec(divisor=8)


def _pool(size: int, stride: int, *, time: bool) -> nn.Sequential:
    """The 2D net's max pool, and one of the same size and stride over time."""
    space = SpatialMaxPool(size, stride, padding=1 if stride == 1 else 0, ceil_mode=True)
    return nn.Sequential(space, TemporalMaxPool(size, stride)) if time else nn.Sequential(space)


class Inception(nn.Module):
    """Four branches, concatenated: 1x1x1; 3x3x3; another 3x3x3; a pool."""

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.branch1 = _conv(in_channels, one, 1)
        self.branch2 = nn.Sequential(_conv(in_channels, reduce3, 1), _conv(reduce3, three, 3))
        self.branch3 = nn.Sequential(_conv(in_channels, reduce5, 1), _conv(reduce5, five, 3))
        self.branch4 = nn.Sequential(_pool(3, 1, time=True), _conv(in_channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' T H W`."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


class GoogLeNet3d(Trunk):
    """Stem and nine inceptions, with the names of torchvision's modules.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
    """

    stages = ("conv1", "conv3", "inception3b", "inception4e", "inception5b")

    def __init__(self, spec: GoogLeNetSpec, *, in_chans: int = 3) -> None:
        super().__init__()
        self.num_features = spec.num_features
        first, reduced, channels = spec.widths("stem")
        self.conv1 = _conv(in_chans, first, 7, stride=(2, 2, 2))
        self.maxpool1 = _pool(3, 2, time=False)
        self.conv2 = _conv(first, reduced, 1)
        self.conv3 = _conv(reduced, channels, 3)
        self.maxpool2 = _pool(3, 2, time=False)
        for name in INCEPTIONS:
            if name == "inception4a":
                self.maxpool3 = _pool(3, 2, time=True)
            if name == "inception5a":
                self.maxpool4 = _pool(2, 2, time=True)
            self.add_module(name, Inception(channels, spec.widths(name)))
            channels = spec.joined(name)


def _conv(in_channels: int, out_channels: int, size: int, stride: Triple = (1, 1, 1)) -> ConvNorm:
    return ConvNorm(in_channels, out_channels, (size, size, size), stride=stride, eps=EPS)
