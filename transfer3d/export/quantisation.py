"""Compares a quantised network with its original on a user's clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from transfer3d.export.agreement import Runner
from transfer3d.models.student import VideoStudent


@dataclass(frozen=True, kw_only=True)
class QuantisationLoss:
    """The loss of a quantised network compared with its original.

    Attributes:
        calibration_clips: number of clips used for calibration.
        clips: number of clips used for the comparison.
        held_out: whether these differ from the calibration clips.
        same_class: share of the clips with the same predicted class, 0..1.
        probability: mean absolute difference of the class probabilities, 0..1.
        top1: top-1 accuracy of the original, 0..1; None without labels.
        quantised_top1: top-1 accuracy of the quantised network, 0..1; None without labels.
    """

    calibration_clips: int
    clips: int
    held_out: bool
    same_class: float
    probability: float
    top1: float | None
    quantised_top1: float | None

    def __str__(self) -> str:
        """Summarises the comparison in one sentence."""
        which = "" if self.held_out else " (the calibration clips: held-out clips would be more reliable)"
        accuracy = ""
        if self.top1 is not None and self.quantised_top1 is not None:
            change = 100 * (self.quantised_top1 - self.top1)
            accuracy = f"top-1 {self.quantised_top1:.1%}, in fp32 {self.top1:.1%} ({change:+.1f} points); "
        return (
            f"int8, calibrated on {self.calibration_clips} clips; on {self.clips} clips{which}: {accuracy}"
            f"{self.same_class:.1%} get the same class, probabilities differ by {self.probability:.2g} on "
            "average."
        )


@torch.no_grad()
def quantisation_loss(
    student: VideoStudent,
    run: Runner,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    calibration_clips: int,
    held_out: bool,
) -> QuantisationLoss:
    """Runs both networks on the same clips.

    Args:
        student: the original, with a classifier.
        run: the quantised network.
        batches: normalised clips `B C T H W` (or `B U C T H W`), at least one in total, and labels int64
            [B], -1 if unlabelled.
        calibration_clips: see `QuantisationLoss`.
        held_out: see `QuantisationLoss`.
    """
    probabilities = student.probabilities
    rows = [
        (probabilities(student(clips)), probabilities(run([clips])[0]), labels) for clips, labels in batches
    ]
    original_NK, quantised_NK, labels_N = (torch.cat(parts) for parts in zip(*rows, strict=True))
    before_N, after_N = original_NK.argmax(-1), quantised_NK.argmax(-1)
    labelled = not student.multi_label and bool((labels_N >= 0).all())

    def share(hits: Tensor) -> float:
        return hits.float().mean().item()

    return QuantisationLoss(
        calibration_clips=calibration_clips,
        clips=len(labels_N),
        held_out=held_out,
        same_class=share(before_N == after_N),
        probability=(original_NK - quantised_NK).abs().mean().item(),
        top1=share(before_N == labels_N) if labelled else None,
        quantised_top1=share(after_N == labels_N) if labelled else None,
    )
