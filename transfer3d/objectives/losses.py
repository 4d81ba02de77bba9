"""The losses of supervision transfer: matching, InfoNCE, and distillation of class scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Matching:
    """The result of the matching task.

    Attributes:
        loss: cross-entropy, with weight 1/2 each for the matched and the mismatched pairs.
        matched: accuracy on the matched pairs, 0..1.
        mismatched: accuracy on the mismatched pairs, 0..1; None if there are none.
    """

    loss: Tensor
    matched: Tensor
    mismatched: Tensor | None

    @property
    def balanced(self) -> Tensor | None:
        """The mean of both accuracies; chance is 0.5."""
        return None if self.mismatched is None else (self.matched + self.mismatched) / 2


def matching(logits_MB2: Tensor, negatives_MB: Tensor) -> Matching:
    """Returns loss and accuracies of the matching head (T3D section 3.2).

    Args:
        logits_MB2: row = frames, column = clip; index 1 = they match. The diagonal has the matched pairs;
            rows after the first B are frames without a clip.
        negatives_MB: the mismatched pairs; without any, the loss has only the matched half.
    """
    matched_B2 = logits_MB2.diagonal().T.float()
    ones_B = matched_B2.new_ones(len(matched_B2), dtype=torch.long)
    loss = functional.cross_entropy(matched_B2, ones_B) / 2
    matched = (matched_B2.argmax(1) == 1).float().mean()
    mismatched_M2 = logits_MB2[negatives_MB].float()
    if len(mismatched_M2) == 0:
        return Matching(loss, matched, None)
    zeros_M = mismatched_M2.new_zeros(len(mismatched_M2), dtype=torch.long)
    loss = loss + functional.cross_entropy(mismatched_M2, zeros_M) / 2
    return Matching(loss, matched, (mismatched_M2.argmax(1) == 0).float().mean())


def infonce(similarity_MB: Tensor, negatives_MB: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions: each clip against all frame sets, each frame set against all clips.

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (arXiv:1807.03748),
    equation (4).

    Args:
        similarity_MB: row = frames, column = clip, -1..1; rows after the first B are frames without a clip.
        negatives_MB: the negatives; the diagonal has the positives.
        temperature: divides the similarities.
    """
    rows, clips = similarity_MB.shape
    diagonal_MB = torch.eye(rows, clips, dtype=torch.bool, device=similarity_MB.device)
    logits_MB = (similarity_MB.float() / temperature).masked_fill(~(negatives_MB | diagonal_MB), -torch.inf)
    target_B = torch.arange(clips, device=logits_MB.device)
    frames_loss = functional.cross_entropy(logits_MB[:clips], target_B)
    return (frames_loss + functional.cross_entropy(logits_MB.T, target_B)) / 2


def distillation(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened class scores, times temperature squared.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section 2.
    """
    log_student_BK = functional.log_softmax(student_BK.float() / temperature, 1)
    log_teacher_BK = functional.log_softmax(teacher_BK.float() / temperature, 1)
    return temperature**2 * functional.kl_div(
        log_student_BK, log_teacher_BK, reduction="batchmean", log_target=True
    )
