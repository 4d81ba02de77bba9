"""Metrics of whether a transfer works, and warnings when it only seems to."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

COLLAPSED = 1.5
"""Effective rank of the student's features below which they count as collapsed; 1 = all on one line."""
ALIKE = 0.01
"""Relative std below which features count as equal; the rounding of bf16 is a third of it."""
CHANCE = 0.55
"""Balanced accuracy that an untrained head can reach on a few batches; chance is 0.5."""
SHUFFLED = 0.6
"""Balanced accuracy that is acceptable on shuffled clips; chance is 0.5."""


def recall(match_logits_BB: Tensor, different_BB: Tensor, k: int) -> Tensor:
    """Returns recall@k of clips by frames: how often the frame set's own clip is among the k best matches.

    Args:
        match_logits_BB: row = frames, column = clip; the higher, the better the match.
        different_BB: pairs of different videos; other clips of the same video are ignored.
        k: at least 1.

    Half of the ties count as better, so that constant logits have recall 0 for small k.
    """
    match_logits_BB = match_logits_BB.float()
    own_B1 = match_logits_BB.diagonal()[:, None]
    better_B = ((match_logits_BB > own_B1) & different_BB).sum(1)
    equal_B = ((match_logits_BB == own_B1) & different_BB).sum(1)
    return (better_B + equal_B / 2 < k).float().mean()


def shuffled_clip_accuracy(match_logits_MB: Tensor, negatives_MB: Tensor, different_MB: Tensor) -> Tensor:
    """Returns the balanced accuracy, 0..1, on the trained pairs with every clip replaced by another video's.

    A head that relies on the student's features is then at chance, 0.5. A head above chance has learnt how
    the pairs were chosen. 0.5 is also returned if no clip can be replaced.

    Args:
        match_logits_MB: row = frames, column = clip; above 0 if the head predicts a match. Rows after the
            first B are frames without a clip.
        negatives_MB: the mismatched pairs used in training.
        different_MB: pairs of different videos.
    """
    count = torch.arange(match_logits_MB.shape[1], device=match_logits_MB.device)
    # Among all rotations by 1 to B - 1, the one that replaces the most clips by another video's.
    rotations_NB = (count - count[1:, None]) % len(count)
    order_B = rotations_NB[different_MB[count, rotations_NB].sum(1).argmax()]
    matches_MB, replaced_MB = match_logits_MB[:, order_B] > 0, different_MB[:, order_B]
    matched = matches_MB.diagonal()[replaced_MB.diagonal()].float().mean()
    mismatched = (~matches_MB[negatives_MB & replaced_MB]).float().mean()
    return ((matched + mismatched) / 2).nan_to_num(0.5)


def effective_rank(features_BD: Tensor) -> Tensor:
    """Returns the effective rank of features: the participation ratio of their covariance's eigenvalues.

    (sum of eigenvalues)^2 / sum of their squares: 1..min(B - 1, D); 0 if all features are equal.
    """
    centred_BD = features_BD.detach().float()
    centred_BD = centred_BD - centred_BD.mean(0)
    gram_BB = centred_BD @ centred_BD.T  # its eigenvalues are the covariance's
    return gram_BB.trace() ** 2 / gram_BB.square().sum().clamp_min(torch.finfo(torch.float32).tiny)


def relative_std(features_BD: Tensor) -> Tensor:
    """Returns the features' RMS distance from their mean divided by their RMS norm, 0..1."""
    features_BD = features_BD.detach().float()
    deviation = (features_BD - features_BD.mean(0)).norm()
    return deviation / features_BD.norm().clamp_min(torch.finfo(torch.float32).tiny)


def training_warnings(metrics: Mapping[str, float]) -> list[str]:
    """Returns a sentence for each sign that the run did not learn what it should.

    Args:
        metrics: the last logged metrics.
    """
    warnings = [
        f"the {name.removesuffix('_loss')} term of the loss is exactly 0, so nothing is learnt from it."
        for name, value in metrics.items()
        if name.endswith("_loss") and value == 0
    ]
    if metrics.get("loss") == 0:
        warnings.append("the loss is exactly 0, so nothing is learnt.")
    if metrics.get("feature_directions", COLLAPSED) < COLLAPSED:
        warnings.append(
            f"the student's features have collapsed: their effective rank is "
            f"{metrics['feature_directions']:.1f}. Lower lr, or add correspondence.feature."
        )
    if metrics.get("feature_spread", 1) < ALIKE:
        warnings.append(
            "the student's features are almost equal: their relative std is "
            f"{metrics['feature_spread']:.2%}. Lower lr, or add correspondence.feature."
        )
    if metrics.get("balanced_accuracy", 1) < CHANCE:
        warnings.append(
            f"the matching task is at chance: balanced pair accuracy {metrics['balanced_accuracy']:.0%}. The "
            "student has learnt nothing from it. Train longer, or change lr."
        )
    if metrics.get("shuffled_accuracy", 0) > SHUFFLED:
        warnings.append(
            f"the head recognises pairs without the student: accuracy {metrics['shuffled_accuracy']:.0%} "
            'on shuffled clips. Use correspondence.pairs = "in-batch".'
        )
    return warnings
