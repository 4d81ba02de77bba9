"""Signs that a transfer works, or only looks as if it did."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

COLLAPSED = 1.5
"""Directions that the student's features use; 1 = all clips lie on one line."""
ALIKE = 0.01
"""How far features lie from their mean, as a share of their length; bf16 rounds to a third of that."""
CHANCE = 0.55
"""Balanced accuracy of a head that has learnt nothing, with what few batches add to it; chance is 0.5."""
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


def without_student(belief_BB: Tensor, negatives_BB: Tensor, different_BB: Tensor) -> Tensor:
    """Returns the balanced accuracy, 0..1, on the trained pairs with every clip exchanged for another.

    A head that needs the student is at chance then, 0.5, and so is what cannot be exchanged; one above it
    tells pairs by how they were chosen.

    Args:
        belief_BB: row = frames, column = clip; above 0 where the head takes them for a pair.
        negatives_BB: the mismatched pairs that are trained.
        different_BB: pairs of different videos: only a clip of another video is put in a clip's place.
    """
    count = torch.arange(len(belief_BB), device=belief_BB.device)
    # Of the turns by 1 to B - 1 places that which puts the most clips where another video's was.
    turns_NB = (count - count[1:, None]) % len(count)
    order_B = turns_NB[different_BB[count, turns_NB].sum(1).argmax()]
    seen_BB, foreign_BB = belief_BB[:, order_B] > 0, different_BB[:, order_B]
    matched = seen_BB.diagonal()[foreign_BB.diagonal()].float().mean()
    mismatched = (~seen_BB[negatives_BB & foreign_BB]).float().mean()
    return ((matched + mismatched) / 2).nan_to_num(0.5)


def directions(features_BD: Tensor) -> Tensor:
    """Returns how many directions features spread over: (sum of eigenvalues)^2 / sum of their squares.

    The participation ratio of the covariance, 1..min(B - 1, D); 0 where all features are equal.
    """
    centred_BD = features_BD.detach().float()
    centred_BD = centred_BD - centred_BD.mean(0)
    gram_BB = centred_BD @ centred_BD.T  # its eigenvalues are the covariance's
    return gram_BB.trace() ** 2 / gram_BB.square().sum().clamp_min(torch.finfo(torch.float32).tiny)


def spread(features_BD: Tensor) -> Tensor:
    """Returns how far features lie from their mean, as a share of their length (root mean squares), 0..1."""
    features_BD = features_BD.detach().float()
    apart = (features_BD - features_BD.mean(0)).norm()
    return apart / features_BD.norm().clamp_min(torch.finfo(torch.float32).tiny)


def alarms(metrics: Mapping[str, float]) -> list[str]:
    """Returns what a person should look at before believing the figures of a run, a sentence each.

    Args:
        metrics: the last ones that were logged.
    """
    found = [
        f"{name.removesuffix('_loss')}: this term of the loss stays exactly 0, so nothing is learnt from it."
        for name, value in metrics.items()
        if name.endswith("_loss") and value == 0
    ]
    if metrics.get("loss") == 0:
        found.append("the loss stays exactly 0, so nothing is learnt.")
    if metrics.get("feature_directions", COLLAPSED) < COLLAPSED:
        found.append(
            f"the student's features have collapsed: they spread over {metrics['feature_directions']:.1f} "
            "directions. Lower lr, or add correspondence.feature."
        )
    if metrics.get("feature_spread", 1) < ALIKE:
        found.append(
            f"the student's features are all alike: they differ by {metrics['feature_spread']:.2%} of their "
            "length. Lower lr, or add correspondence.feature."
        )
    if metrics.get("balanced_accuracy", 1) < CHANCE:
        found.append(
            f"the matching task is at chance: {metrics['balanced_accuracy']:.0%} of the pairs told right, so "
            "the student has learnt nothing from it. Train longer, or change lr."
        )
    if metrics.get("shuffled_accuracy", 0) > SHUFFLED:
        found.append(
            f"the head tells pairs apart without the student: {metrics['shuffled_accuracy']:.0%} right with "
            'the clips of other videos. Use correspondence.pairs = "in-batch".'
        )
    return found
