"""Divided space-time attention: over time at each position, then within each time step.

Paper: Bertasius, Wang, Torresani, "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021
(arXiv:2102.05095), section 3 and figure 2, "T+S".
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from transfer3d.nn.framewise import FrameCount


class TemporalAttention(nn.Module):
    """Attention over time at each position, with a residual connection; the identity at first: `fc` is zero.

    Args:
        norm: the norm before the attention of the 2D network's block; copied.
        attention: the attention of that block; copied.
        dim: D.
        count: the number of time steps of a clip.
        prefix: number of class and register tokens of each step, which pass unchanged.
    """

    def __init__(
        self, norm: nn.Module, attention: nn.Module, dim: int, count: FrameCount, prefix: int
    ) -> None:
        super().__init__()
        self.count, self.prefix = count, prefix
        self.norm = copy.deepcopy(norm)
        self.attn = copy.deepcopy(attention)
        self.fc = nn.Linear(dim, dim)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`B*T' L D` to the same."""
        steps = self.count.frames
        prefix, patches = x[:, : self.prefix], x[:, self.prefix :]
        places = patches.unflatten(0, (-1, steps)).transpose(1, 2)  # B N T' D
        change = self.fc(self.attn(self.norm(places.flatten(0, 1)))).view(places.shape)
        patches = (places + change).transpose(1, 2).flatten(0, 1)
        return torch.cat((prefix, patches), 1) if self.prefix else patches


class SharedPrefix(nn.Module):
    """Attention within each step, after which its class and register tokens are averaged over the steps.

    So a clip has one class token, as in the paper, with a copy in each step.

    Args:
        spatial: the attention of the 2D network's block.
        count: the number of time steps of a clip.
        prefix: class and register tokens of a step.
    """

    def __init__(self, spatial: nn.Module, count: FrameCount, prefix: int) -> None:
        super().__init__()
        self.spatial, self.count, self.prefix = spatial, count, prefix

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """`B*T' L D` to the same."""
        x = self.spatial(x, **options)
        steps = x[:, : self.prefix].unflatten(0, (-1, self.count.frames))
        shared = steps.mean(1, keepdim=True).expand(steps.shape).flatten(0, 1)
        return torch.cat((shared, x[:, self.prefix :]), 1)


class DividedBlock(nn.Module):
    """Attention over time, then a timm block within each step.

    Args:
        block: the 2D network's, with an attention `attn` after a norm `norm1`; its attention is wrapped.
        dim: D.
        count: the number of time steps of a clip.
        prefix: class and register tokens of a step.
    """

    def __init__(self, block: nn.Module, dim: int, count: FrameCount, prefix: int) -> None:
        super().__init__()
        parts = cast(Any, block)
        self.temporal = TemporalAttention(parts.norm1, parts.attn, dim, count, prefix)
        if prefix:
            parts.attn = SharedPrefix(parts.attn, count, prefix)
        self.spatial = block

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """`B*T' L D` to the same; `options` are those of the 2D block."""
        return self.spatial(self.temporal(x), **options)
