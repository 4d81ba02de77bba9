"""Pools that keep an unpaired last frame, so that clips may have any length.

Space is pooled as in the 2D network and time separately: together they equal one 3D pool, and a still clip is
pooled exactly as an image. Both are 2D pools on a view of the clip: autocast would compute 3D pools, and
everything after them, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.leaf import leaf

Pool2d = Callable[[Tensor], Tensor]


class SpatialMaxPool(nn.Module):
    """A 2D max pool of every frame, with the arguments of `nn.MaxPool2d`."""

    def __init__(self, size: int, stride: int, padding: int = 0, *, ceil_mode: bool = False) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(size, stride, padding, ceil_mode=ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C T H' W'`."""
        return pool_frames(x, self.pool)


class TemporalMaxPool(nn.Module):
    """Maximum over pairs of frames, or over an odd number of frames centred on each."""

    def __init__(self, size: int = 2, stride: int = 2) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C ceil(T/stride) H W`."""
        return max_of_frames(x, self.size, self.stride)


@leaf
def max_of_frames(x: Tensor, size: int, stride: int) -> Tensor:
    """Returns what `TemporalMaxPool` does."""
    pairs = size % 2 == 0
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # needs standard operators
    if size == stride == 2 and not recorded and x.shape[2] % 2 == 0:
        return PairMaximum.apply(x)
    window, step, around = (size, 1), (stride, 1), (0 if pairs else size // 2, 0)
    return pool_time(x, lambda rows: F.max_pool2d(rows, window, step, around, ceil_mode=pairs))


class PairMaximum(torch.autograd.Function):
    """The maximum over pairs of an even number of frames.

    It saves one byte per value for the backward pass, a max pool eight (an index): on a CPU, pooling is bound
    by memory traffic. Of two equal values the first gets the gradient, as in torch's pools.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """`B C T H W` to `B C T/2 H W`."""
        first, second = x.unflatten(2, (-1, 2)).unbind(3)
        ctx.save_for_backward(second > first)
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """`B C T/2 H W` to `B C T H W`."""
        (gradient,) = gradients
        to_second = gradient * ctx.saved_tensors[0]
        return torch.stack((gradient - to_second, to_second), 3).flatten(2, 3)


def average_frames(x: Tensor, size: int, *, ceil_mode: bool) -> Tensor:
    """Averages squares of pixels; `ceil_mode` keeps incomplete squares at the border."""
    return pool_frames(x, lambda images: F.avg_pool2d(images, size, ceil_mode=ceil_mode))


@leaf
def average_pairs(x: Tensor) -> Tensor:
    """Averages pairs of frames: `B C T H W` to `B C ceil(T/2) H W`."""
    return pool_time(x, lambda rows: F.avg_pool2d(rows, (2, 1), ceil_mode=True))


def halve(x: Tensor) -> Tensor:
    """Average-pools `B C T H W` by 2x2x2; an odd last row or column is left out, as timm's densenets do."""
    return average_pairs(average_frames(x, 2, ceil_mode=False))


def pool_frames(x: Tensor, pool: Pool2d) -> Tensor:
    """Pools every frame: T is folded into the batch if channels are last, else into C; neither copies."""
    return _images_to_clips(pool(_clips_to_images(x)), x)


@leaf
def _clips_to_images(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1) if x.stride(1) == 1 else x.flatten(1, 2)


@leaf
def _images_to_clips(images: Tensor, like: Tensor) -> Tensor:
    """Undoes `_clips_to_images(like)`."""
    if like.stride(1) == 1:
        return images.unflatten(0, (-1, like.shape[2])).transpose(1, 2)
    return images.unflatten(1, (-1, like.shape[2]))


def pool_time(x: Tensor, pool: Pool2d) -> Tensor:
    """Pools T by viewing a clip as an image with rows T and columns H*W; a single frame stays as it is."""
    return x if x.shape[2] == 1 else pool(x.flatten(3)).unflatten(3, x.shape[3:])
