"""Runs a 2D network over clips: frames are folded into the batch, and only temporal layers unfold them.

So every layer of a 2D network acts as a 3D layer of temporal size 1, whatever its code; BatchNorm over the
folded frames equals BatchNorm over clips.
"""

from __future__ import annotations

from functools import partial
from typing import cast

from torch import Tensor, nn

from transfer3d.nn.convolution import Conv3d
from transfer3d.nn.depthwise2d import pad_same
from transfer3d.nn.standardised import STANDARDISED, StandardisedConv3d


class FrameCount:
    """Number of consecutive frames of a batch per clip, and number of clips; set in each forward pass."""

    def __init__(self) -> None:
        self.frames = 1
        self.clips = 1


def fold_frames(x: Tensor) -> Tensor:
    """Folds frames into the batch: `B C T H W` to `B*T C H W`. Channels-last memory stays channels-last."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, frames: int) -> Tensor:
    """Unfolds frames from the batch: `B*T C ...` to `B C T ...`."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


class TemporalConv(nn.Module):
    """A 2D convolution that also covers neighbouring frames.

    Args:
        like: the 2D convolution; strides, padding, dilation, groups, bias and standardisation are kept.
        depth: number of frames it covers, (depth - 1) // 2 of them before the current one.
        count: the number of frames of a clip.
        same: pad by the input's size, as TensorFlow does (timm's Conv2dSame).

    Raises:
        ValueError: its padding is not zeros, or differs between the two sides.
    """

    def __init__(self, like: nn.Conv2d, depth: int, count: FrameCount, *, same: bool = False) -> None:
        super().__init__()
        self.count = count
        self.same = same
        (kh, kw), (sh, sw), (dh, dw) = like.kernel_size, like.stride, like.dilation
        before, (ph, pw) = (depth - 1) // 2, _zeros_around(like)
        make = partial(StandardisedConv3d, like) if isinstance(like, STANDARDISED) else Conv3d
        self.conv = make(
            like.in_channels,
            like.out_channels,
            (depth, kh, kw),
            (1, sh, sw),
            (before, ph, pw),
            (1, dh, dw),
            groups=like.groups,
            bias=like.bias is not None,
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`B*T C H W` to `B*T C' H' W'`."""
        if self.same:
            x = pad_same(x, self.conv.kernel_size, self.conv.stride, self.conv.dilation)
        return fold_frames(self.conv(unfold_frames(x, self.count.frames)))


def _zeros_around(conv: nn.Conv2d) -> tuple[int, int]:
    """Returns the rows and columns of zeros that a convolution adds on each side."""
    if conv.padding_mode != "zeros":
        raise ValueError(f"a convolution that pads by '{conv.padding_mode}' has no 3D form")
    if conv.padding == "valid":
        return 0, 0
    reach = [(kernel - 1) * step for kernel, step in zip(conv.kernel_size, conv.dilation, strict=True)]
    if conv.padding == "same":
        if any(zeros % 2 for zeros in reach):
            raise ValueError(f"a convolution of size {conv.kernel_size} that pads 'same' has no 3D form")
        return reach[0] // 2, reach[1] // 2
    return cast(tuple[int, int], conv.padding)
