"""A queue of teacher features of earlier clips, as additional negatives.

The teacher is frozen, so its earlier features stay exact, and these negatives cost only a matrix product. It
is the queue of MoCo (He et al., arXiv:1911.05722, section 3.2) without a momentum encoder, since this encoder
never changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureBank(nn.Module):
    """The latest teacher features and the videos that they belong to; part of the training state.

    Args:
        size: N, number of features.
        num_features: D of the teacher.

    Attributes:
        features: float32 N D, the latest last; zeros in entries that are not filled yet.
        sources: int64 N, see `source_ids`.
        filled: int64 scalar, number of features.
    """

    features: Tensor
    sources: Tensor
    filled: Tensor

    def __init__(self, size: int, num_features: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(size, num_features))
        self.register_buffer("sources", torch.zeros(size, dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def join(self, features_BD: Tensor, sources_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features and sources of a batch, followed by the filled entries of the bank."""
        first = len(self.sources) - int(self.filled)
        return torch.cat([features_BD, self.features[first:]]), torch.cat([sources_B, self.sources[first:]])

    @torch.no_grad()
    def add(self, features_BD: Tensor, sources_B: Tensor) -> None:
        """Adds the features of one step; the oldest are dropped."""
        size = len(self.sources)
        # New tensors: the backward pass of the step still needs the old ones.
        self.features = torch.cat([self.features, features_BD.detach().float()])[-size:]
        self.sources = torch.cat([self.sources, sources_B])[-size:]
        self.filled = (self.filled + len(sources_B)).clamp(max=size)
