"""4D convolution over (U, T, H, W), computed with as few 3D convolutions as its kernel allows.

Paper: Zhang et al., "V4D: 4D Convolutional Neural Networks for Video-level Representation Learning",
ICLR 2020, equations (1) and (2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.convolution import convolve
from transfer3d.nn.leaf import leaf
from transfer3d.nn.units import merge_batch

Quadruple = tuple[int, int, int, int]


class Conv4d(nn.Module):
    """4D convolution of stride 1 with zero padding that keeps the input's size (equation 1).

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel: (U, T, H, W), each odd. The paper's forms are (3, 1, 1, 1), (3, 3, 1, 1) and (3, 3, 3, 3).
        bias: whether to add b_j of equation (1).

    Raises:
        ValueError: an extent of the kernel is even.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Quadruple, *, bias: bool = False) -> None:
        super().__init__()
        if any(extent % 2 == 0 for extent in kernel):
            raise ValueError(f"4D kernel {kernel}: every extent must be odd")
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`B C U T H W` to `B C' U T H W`."""
        return conv4d(x, self.weight, self.bias)

    def unit_taps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns each unit's contributions to its neighbours: equation (2) before its sum over s.

        Args:
            x: `N C T H W`, one row per unit.

        Returns:
            For each of the ku taps `N C' T H W`: tap s belongs to the unit ku // 2 - s places later.
        """
        ku = self.weight.shape[2]
        taps = list(convolve(x, self.weight.movedim(2, 0).flatten(0, 1)).chunk(ku, 1))
        if self.bias is not None:
            taps[ku // 2] = taps[ku // 2] + self.bias.view(-1, 1, 1, 1)
        return tuple(taps)

    def extra_repr(self) -> str:
        """Describes the layer in `print(model)`."""
        out_channels, in_channels, *kernel = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel={tuple(kernel)}, bias={self.bias is not None}"


@leaf
def conv4d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolves over (U, T, H, W) with stride 1 and zero padding that keeps the size.

    An axis with kernel size 1 needs no convolution: H and W are merged, or H or T is folded into the batch,
    and a single Conv3d remains. Only a kernel larger than 1 in T, H and W needs a sum over its U taps.

    Args:
        x: `B C U T H W`.
        weight: `C' C ku kt kh kw`, odd extents.
        bias: `C'`.

    Returns:
        `B C' U T H W`.
    """
    batch, height, width = x.shape[0], *x.shape[-2:]
    _, kt, kh, kw = weight.shape[2:]
    # On a CPU, torch takes a path that is five times slower for a single video of this shape in fp32.
    single = not torch.compiler.is_compiling() and batch == 1
    if kh == kw == 1 and not single:
        return convolve(x.flatten(4), weight.flatten(4), bias).unflatten(4, (height, width))
    if kh == 1:
        y = convolve(merge_batch(x.permute(0, 4, 1, 2, 3, 5)), weight.squeeze(4), bias)
        return y.unflatten(0, (batch, -1)).permute(0, 2, 3, 4, 1, 5)
    if kt == 1:
        y = convolve(merge_batch(x.permute(0, 3, 1, 2, 4, 5)), weight.squeeze(3), bias)
        return y.unflatten(0, (batch, -1)).permute(0, 2, 3, 1, 4, 5)
    return _sum_over_unit_taps(x, weight, bias)


def _sum_over_unit_taps(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Computes equation (2): each tap along U is one Conv3d over all units that it reaches.

    Stacking the taps in the channels of a single Conv3d would also compute on the zero padding along U: a
    sixth of the arithmetic for 4 units.
    """
    units, centre = x.shape[2], weight.shape[2] // 2
    x_BUCTHW = x.transpose(1, 2)

    def tap(offset: int, bias: Tensor | None) -> Tensor:
        reached = x_BUCTHW[:, max(offset, 0) : units + min(offset, 0)]
        y = convolve(merge_batch(reached), weight[:, :, centre + offset], bias)
        return y.unflatten(0, reached.shape[:2])

    unpadded = (0,) * 8  # C, T, H and W
    y = tap(0, bias)
    for offset in range(1, min(centre, units - 1) + 1):
        y = y + F.pad(tap(offset, None), (*unpadded, 0, offset))
        y = y + F.pad(tap(-offset, None), (*unpadded, offset, 0))
    return y.transpose(1, 2)
