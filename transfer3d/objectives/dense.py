"""Dense transfer: the student's maps are regressed onto the teacher's, place by place and frame by frame.

As LightlyTrain's distillation does for images (docs.lightly.ai/train, "distillationv2": the student's
features, projected linearly, against the teacher's patch features, by the mean squared error), over clips:
both are averaged onto the coarser of both grids, in time, in height and in width, so that neither is asked
for more detail than it has. The error of a clip depends on that clip alone: parts of a batch and processes
add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def spread_layers(count: int, pairs: int) -> list[int]:
    """Returns the positions of the last of `pairs` equal sections of `count` layers: the last one always."""
    return [(number + 1) * count // pairs - 1 for number in range(pairs)]


class DenseHead(nn.Module):
    """Linear regressions from the student's maps onto the teacher's, one for each pair of layers.

    Each of the teacher's features is standardised over its channels, as targets are in data2vec (Baevski et
    al., arXiv:2202.03555, section 3.3): an error of 1 is that of predicting nothing.

    Args:
        frame_features: channels of the teacher's maps.
        clip_features: channels of the student's.
    """

    def __init__(self, frame_features: Sequence[int], clip_features: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(clip_features, frame_features, strict=True)
        self.guesses = nn.ModuleList(nn.Linear(own, taught) for own, taught in pairs)

    def forward(
        self, frame_maps: Sequence[Tensor], clip_maps: Sequence[Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """Returns the mean squared error of each clip, float32 B, the mean over pairs.

        Args:
            frame_maps: the teacher's, B D F h w, F frames or time steps.
            clip_maps: the student's, B D' T H W.
            weights: of the teacher's places, B F h w, not negative; only their ratios in a clip count. None =
                all alike.
        """
        triples = zip(self.guesses, frame_maps, clip_maps, strict=True)
        return torch.stack([_error(guess, taught, own, weights) for guess, taught, own in triples]).mean(0)


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
