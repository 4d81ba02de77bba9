"""A depthwise 2D layer with fast gradients, and its installation in existing networks."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.depthwise import convolution


class DepthwiseConv2d(nn.Conv2d):
    """A 2D convolution with the parameters of another, computed by `depthwise.convolution`.

    Args:
        like: padded with zeros; its parameters are shared.
        same: pad by the input's size, see `pad_same`.
    """

    def __init__(self, like: nn.Conv2d, *, same: bool) -> None:
        kernel, stride = cast(tuple[int, int], like.kernel_size), cast(tuple[int, int], like.stride)
        padding, dilation = cast(tuple[int, int], like.padding), cast(tuple[int, int], like.dilation)
        with torch.device("meta"):  # its initial values are not needed
            super().__init__(
                like.in_channels,
                like.out_channels,
                kernel,
                stride,
                padding,
                dilation,
                like.groups,
                bias=False,
            )
        self.weight, self.bias, self.same = like.weight, like.bias, same
        self.train(like.training)

    def forward(self, input: Tensor) -> Tensor:  # the base class's name for it
        """`B C H W` to `B C H' W'`."""
        if self.same:
            input = pad_same(input, self.kernel_size, self.stride, self.dilation)
        padding = cast(tuple[int, ...], self.padding)
        return convolution(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def pad_same(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Tensor:
    """Pads H and W so that a size of n gives ceil(n / stride); an odd zero goes after, as in TensorFlow."""
    pads: list[int] = []
    for axis in (-1, -2):  # W, then H: the order of F.pad
        size, reach = x.shape[axis], (kernel[axis] - 1) * dilation[axis] + 1
        total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def give_fast_gradients(module: nn.Module, same: type[nn.Conv2d]) -> None:
    """Replaces the depthwise `nn.Conv2d`s of a module; `same` is the class of those with "same" padding."""
    for parent in list(module.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and type(conv) in (nn.Conv2d, same) and _is_depthwise(conv):
                setattr(parent, name, DepthwiseConv2d(conv, same=type(conv) is same))


def _is_depthwise(conv: nn.Conv2d) -> bool:
    counted = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return counted and conv.groups == conv.in_channels == conv.out_channels > 1
