"""Pseudo-3D units: a 1x3x3 spatial convolution S combined with a 3x1x1 temporal one T.

Paper: Qiu, Yao, Mei, "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks", ICCV 2017,
section 3.2, equations (3) to (5) and figure 2.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.layout import Triple
from transfer3d.nn.convolution import ConvNorm

Wiring = Literal["release", "port"]


class Pseudo3d(nn.Module):
    """A: ReLU(T(S(x))). B: ReLU(S(x) + T(x)). C: ReLU(c_scale * (S(x) + T(S(x)))).

    As in the authors' release, S ends in a ReLU and T in its BatchNorm. The release has c_scale = 0.5.
    `wiring="port"`, as in the widely used PyTorch port, also applies a ReLU to T before the sum of B and C.

    Args:
        in_channels: number of input channels of S (and of T in B).
        out_channels: number of output channels of both.
        kind: A, B or C.
        stride: spatial stride of S, and of T in B; T of A and C follows S and has stride 1.
        groups: groups of both convolutions.
        wiring: "release", or "port" for a ReLU after T.
        c_scale: weight of both terms of C.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kind: str,
        stride: Triple = (1, 1, 1),
        groups: int = 1,
        wiring: Wiring = "release",
        c_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.c_scale = c_scale
        parallel = kind == "B"
        self.spatial = ConvNorm(in_channels, out_channels, (1, 3, 3), stride=stride, groups=groups)
        self.temporal = ConvNorm(
            in_channels if parallel else out_channels,
            out_channels,
            (3, 1, 1),
            stride=stride if parallel else (1, 1, 1),
            groups=groups,
            act=wiring == "port",
        )

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' T H' W'`."""
        spatial = self.spatial(x)
        if self.kind == "A":
            return F.relu(self.temporal(spatial), inplace=True)
        if self.kind == "B":
            return F.relu(spatial + self.temporal(x), inplace=True)
        joined = F.relu(spatial + self.temporal(spatial), inplace=True)
        return joined if self.c_scale == 1 else joined * self.c_scale
