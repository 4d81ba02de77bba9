"""Supervised classification of labelled clips, single-label or multi-label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer3d.batch import ClipBatch, multi_hot
from transfer3d.errors import DataError, UsageError
from transfer3d.models.student import VideoStudent
from transfer3d.objectives.config import Loss
from transfer3d.objectives.objective import LossReport


class Classification(nn.Module):
    """Trains a student on the labels of a dataset.

    Args:
        student: its head has as many classes as the dataset.
        label_smoothing: share of the target that is spread over all classes; with "bce", over 0 and 1.
        class_weights: loss weight of each class, K; with "bce" of its negative and positive targets, 2 K.
            None = 1.
        segments: clips of each video whose logits are averaged before the softmax (TSN, Wang et al. 2016,
            arXiv:1608.00859; T3D, section 4.6), for a clip-level student.
        loss: see `Loss`. With "bce" a batch's `targets` hold all classes of a clip; without them each clip
            has only the class in `labels`.

    Attributes:
        clip: only with segments: the clip spec of its batches, the student's with one unit per segment.
        multi_label: whether its batches must have `targets`; also set as its student's `multi_label`.

    Raises:
        UsageError: segments for a video-level student, which has units.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        student: VideoStudent,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        segments: int = 1,
        loss: Loss = "softmax",
    ) -> None:
        super().__init__()
        self.student, self.label_smoothing, self.segments = student, label_smoothing, segments
        self.multi_label = student.multi_label = loss == "bce"
        if segments > 1:
            if student.clip.units > 1:
                raise UsageError(
                    f"segments={segments}: {student.model_name} sees {student.clip.units} units of each "
                    "video at once. Set clip.units instead."
                )
            self.clip = replace(student.clip, units=segments)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: ClipBatch) -> LossReport:
        """Returns the mean loss over the batch and the top-1 accuracy over its clips.

        Raises:
            DataError: a label is not a class index; torch would silently ignore -100.
        """
        low, high = int(batch.labels.min()), int(batch.labels.max())
        if low < 0 or high >= self.student.num_classes:
            raise DataError(
                f"labels run from {low} to {high}, the student has {self.student.num_classes} classes. "
                "Finetune on labelled videos, with a student that has a class for each label."
            )
        clips = batch.clips if self.segments == 1 else batch.clips.flatten(0, 1)
        logits_BK = self.student(clips).float()
        if self.segments > 1:
            logits_BK = logits_BK.unflatten(0, (-1, self.segments)).mean(1)
        return (self._binary if self.multi_label else self._multiclass)(logits_BK, batch)

    def _multiclass(self, logits_BK: Tensor, batch: ClipBatch) -> LossReport:
        targets = batch.labels if batch.targets is None else batch.targets
        # The mean over clips, not over their weights as in torch, so that accumulated parts add up.
        total = functional.cross_entropy(
            logits_BK, targets, self.class_weights, reduction="none", label_smoothing=self.label_smoothing
        ).mean()
        accuracy = (logits_BK.argmax(1) == batch.labels).float().mean()
        return LossReport(total, {"loss": total.detach(), "clip_accuracy": accuracy})

    def _binary(self, logits_BK: Tensor, batch: ClipBatch) -> LossReport:
        targets_BK = batch.targets
        if targets_BK is None:
            alone = [(int(label),) for label in batch.labels]
            targets_BK = multi_hot(alone, logits_BK.shape[1]).to(logits_BK.device)
        weights_BK = None
        if self.class_weights is not None:
            absent_K, present_K = self.class_weights
            weights_BK = absent_K + (present_K - absent_K) * targets_BK
        smoothed_BK = targets_BK * (1 - self.label_smoothing) + self.label_smoothing / 2
        total = functional.binary_cross_entropy_with_logits(logits_BK, smoothed_BK, weights_BK)
        hit = targets_BK.gather(1, logits_BK.argmax(1, keepdim=True)) > 0
        return LossReport(total, {"loss": total.detach(), "clip_hit1": hit.float().mean()})


def balanced_weights(labels: Sequence[int | None], num_classes: int) -> Tensor:
    """Returns a weight for each class [K]: videos / (classes * videos of the class), as scikit-learn does.

    Over all videos the mean weight is 1; a class without videos has 0.
    """
    known = torch.tensor([label for label in labels if label is not None])
    counts_K = torch.bincount(known, minlength=num_classes).float()
    return torch.where(counts_K > 0, len(known) / (len(counts_K) * counts_K.clamp(min=1)), 0.0)


def balanced_binary_weights(label_sets: Sequence[tuple[int, ...]], num_classes: int) -> Tensor:
    """Returns the weights of the negative and positive targets of each class [2, K], as scikit-learn does.

    That is videos / (2 * negatives) and videos / (2 * positives): over all videos each class's mean weight is
    1. A class that no video has, or all have, gets 1.
    """
    present_K = multi_hot(label_sets, num_classes).sum(0)
    counts_2K = torch.stack([len(label_sets) - present_K, present_K])
    mixed_K = counts_2K.amin(0) > 0
    return torch.where(mixed_K, len(label_sets) / (2 * counts_2K.clamp(min=1)), 1.0)
