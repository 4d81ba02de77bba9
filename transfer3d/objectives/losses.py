"""What a student may learn from a teacher: matching, contrast, and the teacher's own classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Matching:
    """What the matching task found.

    Attributes:
        loss: cross-entropy, matched and mismatched pairs at one half each.
        matched: share of the matched pairs that were taken for such.
        mismatched: share of the mismatched pairs that were taken for such; None where there is none.
    """

    loss: Tensor
    matched: Tensor
    mismatched: Tensor | None

    @property
    def balanced(self) -> Tensor | None:
        """The mean of both shares; chance is 0.5."""
        return None if self.mismatched is None else (self.matched + self.mismatched) / 2


def matching(logits_BB2: Tensor, negatives_BB: Tensor) -> Matching:
    """Judges the head's answers (T3D section 3.2).

    Args:
        logits_BB2: row = frames, column = clip; index 1 = they belong together. The diagonal does.
        negatives_BB: the pairs that do not belong together; without any, the matched half counts alone.
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
    """Contrast in both directions: of all frame sets the right one, of all clips the right one.

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (arXiv:1807.03748),
    equation (4).

    Args:
        similarity_BB: row = frames, column = clip, -1..1.
        negatives_BB: the pairs that compete with the diagonal.
        temperature: divides the similarities.
    """
    diagonal_BB = torch.eye(len(similarity_BB), dtype=torch.bool, device=similarity_BB.device)
    logits_BB = (similarity_BB.float() / temperature).masked_fill(~(negatives_BB | diagonal_BB), -torch.inf)
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (
        functional.cross_entropy(logits_BB, target_B) + functional.cross_entropy(logits_BB.T, target_B)
    ) / 2


def distillation(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Tensor:
    """The teacher's soft classes (Hinton et al., arXiv:1503.02531, section 2), times temperature squared."""
    guess_BK = functional.log_softmax(student_BK.float() / temperature, 1)
    target_BK = functional.log_softmax(teacher_BK.float() / temperature, 1)
    return temperature**2 * functional.kl_div(guess_BK, target_BK, reduction="batchmean", log_target=True)
