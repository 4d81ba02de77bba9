"""The losses of supervision transfer: matching, contrast, and distillation of class scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Matching:
    """The result of the matching task.

    Attributes:
        loss: cross-entropy, matched and mismatched pairs at one half each.
        matched: accuracy on the matched pairs, 0..1.
        mismatched: accuracy on the mismatched pairs, 0..1; None where there are none.
    """

    loss: Tensor
    matched: Tensor
    mismatched: Tensor | None

    @property
    def balanced(self) -> Tensor | None:
        """The mean of both accuracies; chance is 0.5."""
        return None if self.mismatched is None else (self.matched + self.mismatched) / 2


def matching(logits_BB2: Tensor, negatives_BB: Tensor) -> Matching:
    """Returns loss and accuracies of the matching head (T3D section 3.2).

    Args:
        logits_BB2: row = frames, column = clip; index 1 = they match. The diagonal holds the matched pairs.
        negatives_BB: the mismatched pairs; without any, only the matched half counts.
    """
    matched_B2 = logits_BB2.diagonal().T.float()
    ones_B = matched_B2.new_ones(len(matched_B2), dtype=torch.long)
    loss = functional.cross_entropy(matched_B2, ones_B) / 2
    matched = (matched_B2.argmax(1) == 1).float().mean()
    mismatched_M2 = logits_BB2[negatives_BB].float()
    if len(mismatched_M2) == 0:
        return Matching(loss, matched, None)
    zeros_M = mismatched_M2.new_zeros(len(mismatched_M2), dtype=torch.long)
    loss = loss + functional.cross_entropy(mismatched_M2, zeros_M) / 2
    return Matching(loss, matched, (mismatched_M2.argmax(1) == 0).float().mean())


def infonce(similarity_BB: Tensor, negatives_BB: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions: each clip against all frame sets, each frame set against all clips.

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (arXiv:1807.03748),
    equation (4).

    Args:
        similarity_BB: row = frames, column = clip, -1..1.
        negatives_BB: the negatives; the diagonal holds the positives.
        temperature: divides the similarities.
    """
    diagonal_BB = torch.eye(len(similarity_BB), dtype=torch.bool, device=similarity_BB.device)
    logits_BB = (similarity_BB.float() / temperature).masked_fill(~(negatives_BB | diagonal_BB), -torch.inf)
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (
        functional.cross_entropy(logits_BB, target_B) + functional.cross_entropy(logits_BB.T, target_B)
    ) / 2


def distillation(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened class scores, times temperature squared.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section 2.
    """
    log_student_BK = functional.log_softmax(student_BK.float() / temperature, 1)
    log_teacher_BK = functional.log_softmax(teacher_BK.float() / temperature, 1)
    return temperature**2 * functional.kl_div(
        log_student_BK, log_teacher_BK, reduction="batchmean", log_target=True
    )
