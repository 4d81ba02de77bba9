"""The supervised objective: cross-entropy on labelled clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer3d.batch import ClipBatch
from transfer3d.errors import DataError
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.objective import LossReport


class Supervised:
    """A student learns the labels of a dataset.

    Args:
        student: any student whose head has the dataset's number of classes.
        label_smoothing: share of the target that is spread over all classes.
        class_weights_K: what the loss of a clip is multiplied by, for each class; None = 1.
    """

    def __init__(
        self, student: VideoStudent, label_smoothing: float = 0.0, class_weights_K: Tensor | None = None
    ) -> None:
        self.trainable: nn.Module = student
        self._weights_K = class_weights_K
        self.clip, self.classes, self.label_smoothing = student.clip, student.num_classes, label_smoothing

    def loss(self, trainable: nn.Module, batch: ClipBatch) -> LossReport:
        """Returns the mean cross-entropy over the batch and the clip accuracy.

        Raises:
            DataError: a label is not a class number; torch would ignore -100 in silence.
        """
        low, high = int(batch.labels.min()), int(batch.labels.max())
        if low < 0 or high >= self.classes:
            raise DataError(
                f"labels run from {low} to {high}, the student has {self.classes} classes. "
                "Finetune on labelled videos, with one class for each label.",
            )
        logits_BK = trainable(normalise(batch.clips, self.clip.mean, self.clip.std)).float()
        targets = batch.labels if batch.targets is None else batch.targets
        weights_K = None if self._weights_K is None else self._weights_K.to(logits_BK.device)
        # Divided by the clips, not by their weights as torch would: so that parts of a batch add up to it.
        total = functional.cross_entropy(
            logits_BK, targets, weights_K, reduction="none", label_smoothing=self.label_smoothing
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
