"""The one way in which convolutions are made here: He et al.'s initialisation, then BatchNorm, then ReLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.layout import Triple


class EvenDepthConv3d(nn.Conv3d):
    """A convolution of even temporal depth, which needs one more frame of zeros behind than in front."""

    def forward(self, input: Tensor) -> Tensor:  # the base class's name for it
        """`B C T H W` to `B C' T H' W'`."""
        return super().forward(F.pad(input, (0, 0, 0, 0, 0, 1)))


def conv3d(
    in_channels: int,
    out_channels: int,
    kernel: Triple,
    *,
    stride: Triple = (1, 1, 1),
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv3d:
    """Makes a 3D convolution whose output has its input's size divided by the stride, rounded up.

    A temporal depth d sees (d - 1) // 2 frames back and d // 2 ahead. Weights are drawn as in He et al.,
    "Delving Deep into Rectifiers" (arXiv:1502.01852), which is [14] of T3D.
    """
    make = nn.Conv3d if kernel[0] % 2 else EvenDepthConv3d
    padding = ((kernel[0] - 1) // 2, kernel[1] // 2, kernel[2] // 2)
    conv = make(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ConvNorm(nn.Module):
    """Convolution, BatchNorm and, unless `act` is False, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        *,
        stride: Triple = (1, 1, 1),
        groups: int = 1,
        act: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = conv3d(in_channels, out_channels, kernel, stride=stride, groups=groups)
        self.norm = nn.BatchNorm3d(out_channels, eps)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' T' H' W'`."""
        return self.act(self.norm(self.conv(x)))
