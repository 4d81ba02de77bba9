"""Attention in windows over space and time: Swin's windows, several time steps deep, shifted in time too.

Paper: Liu et al., "Video Swin Transformer", CVPR 2022 (arXiv:2106.13230), section 3. timm's own module
attends within a window; for time it needs relative positions on three axes, and masks.

Why a still clip keeps the image network's output: a window holds n copies of each key, with the same bias for
every offset in time (section 3.4), so the attention output equals that with a single copy.
Masking, shifting and padding act on whole time steps, so they only change n.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from timm.models import swin_transformer
from torch import Tensor, nn

from transfer3d.nn.framewise import FrameCount

HIDDEN = -100.0
"""Added to the logits of masked keys, as in Swin."""
LOGARITHM = 8
"""Scale of Swin v2's log-spaced offsets, as released: offsets in [-1, 1] are multiplied by it, and their
logarithm is divided by its logarithm."""


class OffsetLinear(nn.Linear):
    """The first layer of Swin v2's position bias, for offsets in time, height and width.

    No paper describes Swin v2 for clips; adding a first column for time is the smallest change.
    """


class JointWindows(nn.Module):
    """A timm window attention over windows of `window` time steps.

    Clips are padded to a multiple of the window with masked steps. (The paper's code shortens the window
    for a shorter clip, which is the same; it pads a longer one with zeros that are not masked.)

    Args:
        spatial: the 2D network's window attention, of Swin or Swin v2; changed.
        window: time steps of a window.
        shift: time steps by which windows are shifted; clips of a single window are not shifted.
        count: number of time steps per clip, and number of clips.
    """

    def __init__(self, spatial: nn.Module, window: int, shift: int, count: FrameCount) -> None:
        super().__init__()
        self.window, self.shift, self.count = window, shift, count
        _give_time(spatial, window)
        self.spatial = spatial

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps `B*T'*W N C` to the same; `mask` (`W N N`, W windows of a time step) is added to logits."""
        steps, places, channels = self.count.frames, x.shape[1], x.shape[2]
        shift, missing = self.shift if steps > self.window else 0, -steps % self.window
        x = x.view(self.count.clips, steps, -1, places, channels)
        if missing:
            x = torch.cat((x, x[:, -1:].expand(-1, missing, -1, -1, -1)), 1)
        if shift:
            x = x.roll(-shift, 1)
        if shift or missing or mask is not None:
            in_space = x.new_zeros(x.shape[2], places, places) if mask is None else mask
            in_time = self._hidden_steps(steps, shift, missing, x)
            mask = in_time[:, None, :, None, :, None] + in_space[:, None, :, None]
            mask = mask.flatten(0, 1).flatten(1, 2).flatten(2, 3)  # K*W t*N t*N, of K windows in time
        x = x.unflatten(1, (-1, self.window)).transpose(2, 3)  # B K W t N C
        y = self.spatial(x.flatten(3, 4).flatten(0, 2), mask).view(x.shape)
        y = y.transpose(2, 3).flatten(1, 2)
        if shift:
            y = y.roll(shift, 1)
        return y[:, :steps].flatten(0, 2)

    def _hidden_steps(self, steps: int, shift: int, missing: int, like: Tensor) -> Tensor:
        """Returns a mask `K t t`, added to the logits, that hides steps of a window from each other.

        It hides padding from other steps, and a clip's first steps from its last ones, next to which they
        were rolled.
        """
        number = torch.arange(steps + missing, device=like.device)
        part = ((number >= steps).long() + 2 * (number < shift).long()).roll(-shift).view(-1, self.window)
        apart = part[:, :, None] != part[:, None]
        return torch.zeros(apart.shape, dtype=like.dtype, device=like.device).masked_fill(apart, HIDDEN)


def _give_time(spatial: nn.Module, window: int) -> None:
    """Extends a window attention to windows of several time steps."""
    attention, (height, width) = cast(Any, spatial), cast(Any, spatial).window_size
    offsets = (2 * height - 1) * (2 * width - 1)
    number = torch.arange(window)
    apart = number[:, None] - number + window - 1
    flat = attention.relative_position_index
    index = apart[:, None, :, None] * offsets + flat[None, :, None]
    index = index.reshape(window * len(flat), window * len(flat))
    spatial.register_buffer("relative_position_index", index, persistent=False)
    if isinstance(spatial, swin_transformer.WindowAttention):
        table = torch.empty((2 * window - 1) * offsets, attention.num_heads)
        attention.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        attention.window_area = window * height * width
        return
    first = attention.cpb_mlp[0]
    attention.cpb_mlp[0] = OffsetLinear(1 + first.in_features, first.out_features)
    nn.init.trunc_normal_(attention.cpb_mlp[0].weight, std=0.02)
    nn.init.zeros_(attention.cpb_mlp[0].bias)
    apart = torch.arange(1 - window, window) / max(window - 1, 1)
    time = apart.sign() * torch.log2(apart.abs() * LOGARITHM + 1) / math.log2(LOGARITHM)
    space = attention.relative_coords_table.expand(2 * window - 1, -1, -1, -1)
    coordinates = torch.cat((time[:, None, None, None].expand(*space.shape[:3], 1), space), 3)
    spatial.register_buffer("relative_coords_table", coordinates[None], persistent=False)
    attention.window_size = (window * height, width)  # their product is the tokens of a window
