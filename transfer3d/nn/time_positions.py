"""Learned temporal position embeddings, initially zero, so that adding them does not change a transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.framewise import FrameCount


class TimePositions(nn.Module):
    """Adds one vector to the tokens of each time step.

    The vectors are interpolated linearly for clips of another length.

    Args:
        steps: T', number of learned vectors.
        dim: D.
        count: the number of time steps of a clip.
        skip: number of leading tokens of each step that get no position.
    """

    def __init__(self, steps: int, dim: int, count: FrameCount, *, skip: int = 0) -> None:
        super().__init__()
        self.count, self.skip = count, skip
        self.weight = nn.Parameter(torch.zeros(steps, dim))

    def forward(self, x: Tensor) -> Tensor:
        """`B*T' L D` to the same."""
        steps = self.count.frames
        vectors = self.weight
        if steps != len(vectors):
            vectors = F.interpolate(vectors.T[None], steps, mode="linear")[0].T
        prefix, rest = x[:, : self.skip], x[:, self.skip :]
        rest = (rest.unflatten(0, (-1, steps)) + vectors[:, None]).flatten(0, 1)
        return torch.cat((prefix, rest), 1) if self.skip else rest


class TimedNorm(nn.Module):
    """Adds temporal positions, then applies the 2D network's layer after its position embedding.

    Args:
        temporal: the temporal positions.
        spatial: the 2D network's `norm_pre`.
    """

    def __init__(self, temporal: TimePositions, spatial: nn.Module) -> None:
        super().__init__()
        self.temporal = temporal
        self.spatial = spatial

    def forward(self, x: Tensor) -> Tensor:
        """`B*T' L D` to the same."""
        return self.spatial(self.temporal(x))
