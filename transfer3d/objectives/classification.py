"""Supervised classification: cross-entropy on labelled clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer3d.batch import ClipBatch
from transfer3d.errors import DataError, UsageError
from transfer3d.models.student import VideoStudent
from transfer3d.objectives.objective import LossReport


class Classification(nn.Module):
    """A student learns the labels of a dataset.

    Args:
        student: its head has as many classes as the dataset.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: K factors of the loss of a clip, by its class; None = 1.
        segments: clips of each video whose logits are averaged before the softmax (TSN, Wang et al. 2016,
            arXiv:1608.00859; T3D, section 4.6), for a student of single clips.

    Attributes:
        clip: only with segments: what its batches are made of, the student's clip with a unit for each.

    Raises:
        UsageError: segments of a video-level student, which has units.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        student: VideoStudent,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        segments: int = 1,
    ) -> None:
        super().__init__()
        self.student, self.label_smoothing, self.segments = student, label_smoothing, segments
        if segments > 1:
            if student.clip.units > 1:
                raise UsageError(
                    f"segments={segments}: {student.model_name} sees {student.clip.units} units of each "
                    "video at once. Set clip.units instead."
                )
            self.clip = replace(student.clip, units=segments)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: ClipBatch) -> LossReport:
        """Returns the mean cross-entropy over the batch and the clip accuracy.

        Raises:
            DataError: a label is not a class number; torch would silently ignore -100.
        """
        low, high = int(batch.labels.min()), int(batch.labels.max())
        if low < 0 or high >= self.student.num_classes:
            raise DataError(
                f"labels run from {low} to {high}, the student has {self.student.num_classes} classes. "
                "Finetune on labelled videos, with one class for each label."
            )
        clips = batch.clips if self.segments == 1 else batch.clips.flatten(0, 1)
        logits_BK = self.student(clips).float()
        if self.segments > 1:
            logits_BK = logits_BK.unflatten(0, (-1, self.segments)).mean(1)
        targets = batch.labels if batch.targets is None else batch.targets
        # A mean over clips, not over their weights as in torch, so that parts of a batch add up to it.
        total = functional.cross_entropy(
            logits_BK, targets, self.class_weights, reduction="none", label_smoothing=self.label_smoothing
        ).mean()
        accuracy = (logits_BK.argmax(1) == batch.labels).float().mean()
        return LossReport(total, {"loss": total.detach(), "clip_accuracy": accuracy})


def balanced_weights(labels: Sequence[int | None], num_classes: int) -> Tensor:
    """Returns a weight for each class [K]: videos / (classes * videos of the class), as scikit-learn does.

    Over all videos the mean weight is 1; a class without videos has 0.
    """
    known = torch.tensor([label for label in labels if label is not None])
    counts_K = torch.bincount(known, minlength=num_classes).float()
    return torch.where(counts_K > 0, len(known) / (len(counts_K) * counts_K.clamp(min=1)), 0.0)
