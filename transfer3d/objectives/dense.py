"""Dense transfer: the student's feature maps are regressed onto the teacher's, per position and frame.

This extends LightlyTrain's image distillation (docs.lightly.ai/train, "distillationv2": linear projection of
the student's features, mean squared error to the teacher's patch features) to clips. Both maps are averaged
to the coarser grid in time, height and width, so that neither needs more detail than it has. The error of a
clip depends on that clip alone, so that accumulated parts of a batch and processes add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def spread_layers(count: int, pairs: int) -> list[int]:
    """Returns the index of the last layer in each of `pairs` equal sections of `count` layers."""
    return [(number + 1) * count // pairs - 1 for number in range(pairs)]


class DenseHead(nn.Module):
    """Linear regressions from the student's maps onto the teacher's, one for each pair of layers.

    Each teacher feature is standardised over its channels, as data2vec's targets (Baevski et al.,
    arXiv:2202.03555, section 3.3): predicting zeros has an error of 1.

    Args:
        frame_features: channels of the teacher's maps, per pair.
        clip_features: channels of the student's maps, per pair.
    """

    def __init__(self, frame_features: Sequence[int], clip_features: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(clip_features, frame_features, strict=True)
        self.guesses = nn.ModuleList(nn.Linear(clip, frame) for clip, frame in pairs)

    def forward(
        self, frame_maps: Sequence[Tensor], clip_maps: Sequence[Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """Returns the mean squared error of each clip, float32 B, the mean over pairs.

        Args:
            frame_maps: the teacher's, B D F h w, F frames or time steps.
            clip_maps: the student's, B D' T H W.
            weights: weights of the teacher's positions, B F h w, not negative; only ratios in a clip matter.
                None = all equal.
        """
        triples = zip(self.guesses, frame_maps, clip_maps, strict=True)
        errors_PB = [_error(guess, frames, clips, weights) for guess, frames, clips in triples]
        return torch.stack(errors_PB).mean(0)


def _error(guess: nn.Module, frame_maps: Tensor, clip_maps: Tensor, weights: Tensor | None) -> Tensor:
    times, rows, columns = (min(pair) for pair in zip(frame_maps.shape[2:], clip_maps.shape[2:], strict=True))
    grid = (times, rows, columns)
    targets_BTHWD = functional.adaptive_avg_pool3d(frame_maps.float(), grid).movedim(1, -1)
    targets_BTHWD = functional.layer_norm(targets_BTHWD, targets_BTHWD.shape[-1:])
    guesses_BTHWD = guess(functional.adaptive_avg_pool3d(clip_maps, grid).movedim(1, -1))
    errors_BN = (guesses_BTHWD.float() - targets_BTHWD).square().mean(-1).flatten(1)
    if weights is None:
        return errors_BN.mean(1)
    weights_BN = functional.adaptive_avg_pool3d(weights[:, None].float(), grid).flatten(1)
    return (errors_BN * weights_BN).sum(1) / weights_BN.sum(1)
