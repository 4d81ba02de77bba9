"""The temporal part of a factorised encoder: transformer blocks over the pooled features of the time steps.

Paper: Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021, section 3.3, model 2.
"""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Block
from torch import Tensor, nn

from transfer3d.nn.framewise import FrameCount
from transfer3d.nn.time_positions import TimePositions


class TemporalEncoder(nn.Module):
    """timm's blocks over time, then the mean; initially only the mean, since each block's branches are zero.

    Differs from the paper: no class token and no final norm, which would change a still clip's feature.

    Args:
        dim: D.
        depth: number of blocks.
        heads: number of attention heads of each block.
        steps: T', number of learned temporal positions.
        count: the number of time steps of a clip.
    """

    def __init__(self, dim: int, depth: int, heads: int, steps: int, count: FrameCount) -> None:
        super().__init__()
        self.count = count
        self.positions = TimePositions(steps, dim, count)
        blocks: list[Any] = [Block(dim, heads, qkv_bias=True) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        for block in blocks:
            for last in (block.attn.proj, block.mlp.fc2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`B*T' D` to `B D`."""
        x = self.positions(x[:, None])[:, 0].unflatten(0, (-1, self.count.frames))
        for block in self.blocks:
            x = block(x)
        return x.mean(1)
