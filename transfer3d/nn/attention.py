"""F4D's attention (temporal, channel, spatio-temporal), and its baselines SE and CBAM (table 5).

Paper: Al-Saad, Ramaswamy, Bhandarkar, "F4D: Factorized 4D Convolutional Neural Network for Efficient
Video-Level Representation Learning", 2024, section 3.5, tables 4 and 5. CBAM: Woo et al., arXiv:1807.06521.

Every module takes `B*U C T H W` and the number of units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.convolution import conv3d
from transfer3d.nn.residual import SqueezeExcite

DILATIONS = (2, 3)
REDUCTION = 16
MIN_HIDDEN = 4  # fewer hidden channels may all be dead ReLUs
CBAM_WINDOW = 7


class TemporalAttention(nn.Module):
    """Reweights the U*T frames of a video: equations (4) to (6)."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.Conv1d(1, 1, 3, padding=dilation, dilation=dilation, bias=False) for dilation in DILATIONS
        )

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same."""
        pooled_NT = x.mean((1, 3, 4)) + x.amax((1, 3, 4))
        sequence_B1S = pooled_NT.view(-1, 1, units * x.shape[2])
        weights_B1S = torch.stack([path(sequence_B1S) for path in self.paths]).sum(0).sigmoid()
        return x + x * weights_B1S.reshape(-1, 1, x.shape[2], 1, 1)


class ChannelAttention(nn.Module):
    """Reweights the channels of each unit: equations (7) to (9); without inner residual CBAM's (2)."""

    def __init__(self, channels: int, *, residual: bool = True) -> None:
        super().__init__()
        hidden = max(MIN_HIDDEN, channels // REDUCTION)
        self.squeeze = conv3d(channels, hidden, (1, 1, 1))
        self.excite = conv3d(hidden, channels, (1, 1, 1))
        self.residual = residual

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same."""
        average, largest = x.mean((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
        described = self.excite(F.relu(self.squeeze(average))) + self.excite(F.relu(self.squeeze(largest)))
        weighted = x * described.sigmoid()
        return x + weighted if self.residual else weighted


class SpatioTemporalAttention(nn.Module):
    """Reweights the positions of each unit: equations (10) to (12)."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(
            nn.Conv3d(2, 1, (1, 3, 3), padding=(0, d, d), dilation=(1, d, d), bias=False) for d in DILATIONS
        )
        self.temporal = nn.ModuleList(
            nn.Conv3d(1, 1, (3, 1, 1), padding=(d, 0, 0), dilation=(d, 1, 1), bias=False) for d in DILATIONS
        )
        # Each path has non-negative input and feeds one ReLU: with random signs it would often start dead and
        # stay dead. An average never does.
        for path in self.spatial.parameters():
            nn.init.constant_(path, 1 / path[0].numel())

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same."""
        described = F.relu(torch.stack([path(_over_channels(x)) for path in self.spatial]).sum(0))
        weights = torch.stack([path(described) for path in self.temporal]).sum(0).sigmoid()
        return x + x * weights


class SqueezeAttention(nn.Module):
    """Squeeze-and-excitation of each unit, in 3D space."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = SqueezeExcite(channels, max(MIN_HIDDEN, channels // REDUCTION))

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same."""
        return self.excite(x)


class ConvBlockAttention(nn.Module):
    """CBAM of each unit: channels, then positions with one 7x7 convolution per frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, residual=False)
        self.spatial = conv3d(2, 1, (1, CBAM_WINDOW, CBAM_WINDOW))

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same."""
        x = self.channel(x, units)
        return x * self.spatial(_over_channels(x)).sigmoid()


class Attention(nn.Module):
    """Applies any of the above by name, in the paper's order.

    Args:
        channels: number of channels of the feature maps.
        kind: "ta", "ca", "sta" joined by "+" in this order (table 4), "se" or "cbam" (table 5), or "none".

    Raises:
        ValueError: `kind` is none of these.
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        makers = {
            "ta": TemporalAttention,
            "ca": lambda: ChannelAttention(channels),
            "sta": SpatioTemporalAttention,
            "se": lambda: SqueezeAttention(channels),
            "cbam": lambda: ConvBlockAttention(channels),
        }
        parts = [] if kind == "none" else kind.split("+")
        in_order = [name for name in ("ta", "ca", "sta") if name in parts]
        if parts != in_order and kind not in ("se", "cbam"):
            raise ValueError(f"attention={kind!r}: must be any of ta+ca+sta in this order, or se, cbam, none")
        self.parts = nn.ModuleDict({name: makers[name]() for name in parts})

    def forward(self, x: Tensor, units: int) -> Tensor:
        """`B*U C T H W` to the same."""
        for part in self.parts.values():
            x = part(x, units)
        return x


def _over_channels(x: Tensor) -> Tensor:
    """Returns the average and the maximum over C, `B 2 T H W`."""
    return torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
