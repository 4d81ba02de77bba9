"""Convolutions of one or two of the three axes, as 2D convolutions or matrix products over the same memory.

In channels-last memory the axes lie in the order B T H W C, so that frames join the batch, or the positions
of a frame one axis, without a copy. A GPU has faster kernels for these forms than for 3D convolutions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.layout import Triple
from transfer3d.nn.convolution import Conv3d


def use_2d_convolutions(module: nn.Module) -> None:
    """Lets the 3D convolutions of a network compute as `convolve_as_2d` does, where it can."""
    for part in module.modules():
        if isinstance(part, Conv3d):
            part.convolution = convolve_as_2d


def convolve_as_2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Triple,
    padding: Triple,
    dilation: Triple,
    groups: int,
) -> Tensor:
    """Convolves `B C T H W` as `torch.nn.functional.conv3d` does.

    1x1x1 is a matrix product over channels, 1xkxk a 2D convolution over frames, kx1x1 a 2D convolution over
    (T, H*W). Other kernels, and strides along an axis that has to be merged, are left to `conv3d`.
    """
    (depth, *area), batch = weight.shape[2:], len(x)
    if depth == 1 and padding[0] == 0 and stride[0] == 1:
        if area == [1, 1] and groups == 1 and max(stride) == 1 and max(padding) == 0:
            return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        frames = x.transpose(1, 2).flatten(0, 1)
        y = F.conv2d(frames, weight.squeeze(2), bias, stride[1:], padding[1:], dilation[1:], groups)
        return y.unflatten(0, (batch, -1)).transpose(1, 2)
    if area == [1, 1] and max(stride[1:]) == 1 and max(padding[1:]) == 0:
        steps = (stride[0], 1), (padding[0], 0), (dilation[0], 1)
        return F.conv2d(x.flatten(3), weight.squeeze(4), bias, *steps, groups).unflatten(3, x.shape[3:])
    return F.conv3d(x, weight, bias, stride, padding, dilation, groups)
