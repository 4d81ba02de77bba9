"""Signs that a transfer works, or only looks as if it did."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

COLLAPSED = 1.5
"""Directions that the student's features use; 1 = all clips lie on one line."""
SHUFFLED = 0.6
"""Balanced accuracy that a head may reach with the clips of other videos; chance is 0.5."""


def recall(belief_BB: Tensor, different_BB: Tensor, k: int) -> Tensor:
    """Returns the share of frame sets whose own clip is among the k that fit best.

    Args:
        belief_BB: row = frames, column = clip; how much they seem to belong together.
        different_BB: pairs of different videos; other clips of the same video do not compete.
        k: at least 1.

    Of those that fit equally well half count as better: a head that finds everything equal recalls nothing.
    """
    belief_BB = belief_BB.float()
    own_B1 = belief_BB.diagonal()[:, None]
    better_B = ((belief_BB > own_B1) & different_BB).sum(1)
    equal_B = ((belief_BB == own_B1) & different_BB).sum(1)
    return (better_B + equal_B / 2 < k).float().mean()


def directions(features_BD: Tensor) -> Tensor:
    """Returns how many directions features spread over: (sum of eigenvalues)^2 / sum of their squares.

    The participation ratio of the covariance, 1..min(B - 1, D); 0 where all features are equal.
    """
    centred_BD = features_BD.detach().float()
    centred_BD = centred_BD - centred_BD.mean(0)
    gram_BB = centred_BD @ centred_BD.T  # its eigenvalues are the covariance's
    return gram_BB.trace() ** 2 / gram_BB.square().sum().clamp_min(torch.finfo(torch.float32).tiny)


def alarms(metrics: Mapping[str, float]) -> list[str]:
    """Returns what a person should look at before believing the figures of a run, a sentence each.

    Args:
        metrics: the last ones that were logged.
    """
    found = [
        f"{name.removesuffix('_loss')}: this term of the loss is exactly 0, so nothing is learnt from it."
        for name, value in metrics.items()
        if name.endswith("_loss") and value == 0
    ]
    if metrics.get("feature_directions", COLLAPSED) < COLLAPSED:
        found.append(
            f"the student's features have collapsed: they spread over {metrics['feature_directions']:.1f} "
            "directions. Lower lr, or add correspondence.feature."
        )
    if metrics.get("shuffled_accuracy", 0) > SHUFFLED:
        found.append(
            f"the head tells pairs apart without the student: {metrics['shuffled_accuracy']:.0%} right with "
            'the clips of other videos. Use correspondence.pairs = "in-batch".'
        )
    return found
