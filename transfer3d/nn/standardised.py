"""Weight-standardised convolutions over clips.

Papers: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization"
(arXiv:1903.10520); with a scale and a gain Brock et al., "Characterizing signal propagation to close the
performance gap in unnormalized ResNets" (arXiv:2101.08692). Both standardise 2D kernels. Here the
standardised taps of a 3D kernel add up to the standardised sum of its taps, for any weights: on a still clip
the layer equals the 2D layer with that sum as its kernel. A tap of zeros stays zero.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm import layers as timm_layers
from torch import Tensor, nn

from transfer3d.nn.convolution import Conv3d

_layers: Any = timm_layers
STANDARDISED: tuple[type[nn.Conv2d], ...] = (
    _layers.StdConv2d,
    _layers.StdConv2dSame,
    _layers.ScaledStdConv2d,
    _layers.ScaledStdConv2dSame,
)
"""timm's convolutions that standardise their kernels."""


class StandardisedConv3d(Conv3d):
    """A 3D convolution with centred taps, divided by the standard deviation of their sum.

    Attributes:
        gain: factor of each output channel, `O 1 1 1` as in timm; None if the 2D layer has none.

    Args:
        like: one of `STANDARDISED`.
        arguments: positional arguments of `nn.Conv3d`.
        options: keyword arguments of `nn.Conv3d`.
    """

    def __init__(self, like: nn.Conv2d, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        settings = cast(Any, like)
        self.eps: float = settings.eps
        self.scale: float = getattr(settings, "scale", 1.0)
        gain: Tensor | None = getattr(settings, "gain", None)
        self.gain = None if gain is None else nn.Parameter(torch.ones_like(gain))

    def kernel(self) -> Tensor:
        """Returns the standardised weights, `O I/groups T H W`."""
        taps = self.weight - self.weight.mean((1, 3, 4), keepdim=True)
        variance = taps.sum(2, keepdim=True).square().mean((1, 2, 3, 4), keepdim=True)
        kernel = taps * (variance + self.eps).rsqrt() * self.scale
        return kernel if self.gain is None else kernel * self.gain[..., None]
