"""Joint space-time attention: an image transformer's block over the tokens of all time steps together.

Paper: Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021, section 3.3, model 1. Differs from
it: each time step has its own class and register tokens. So all steps of a still clip hold the same tokens,
every softmax is over T' copies of the same keys, and its output equals that over one copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from transfer3d.nn.framewise import FrameCount


class JointBlock(nn.Module):
    """Any timm block applied to `B T'*L D`: blocks treat their tokens as a set.

    Args:
        spatial: the 2D network's block.
        count: the number of time steps of a clip.
    """

    def __init__(self, spatial: nn.Module, count: FrameCount) -> None:
        super().__init__()
        self.spatial = spatial
        self.count = count
        attention: Any = getattr(spatial, "attn", None)
        if hasattr(attention, "num_prefix_tokens"):  # `_repeat_angles` gives angles for all tokens
            attention.num_prefix_tokens = 0

    def forward(self, x: Tensor, rope: Tensor | None = None, **options: Any) -> Tensor:
        """`B*T' L D` to the same; `rope`: sines and cosines of a step's last N tokens, `[heads] N 2d`."""
        tokens, steps = x.shape[1], self.count.frames
        if rope is not None:
            options["rope"] = _repeat_angles(rope, tokens - rope.shape[-2], steps)
        return self.spatial(x.reshape(-1, steps * tokens, x.shape[2]), **options).reshape(x.shape)


def _repeat_angles(rope: Tensor, prefix: int, steps: int) -> Tensor:
    """Returns the angles of every token of all steps: prefix tokens are rotated by 0."""
    half = rope.shape[-1] // 2
    still = torch.cat((rope.new_zeros(half), rope.new_ones(half))).expand(*rope.shape[:-2], prefix, -1)
    return torch.cat([still, rope] * steps, -2)
