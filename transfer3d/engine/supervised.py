"""The supervised objective: cross-entropy on labelled clips."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from transfer3d.errors import DataError
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.transfer.objective import ClipBatch, LossReport


class Supervised:
    """A student learns the labels of a dataset.

    Args:
        student: any student whose head has the dataset's number of classes.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(self, student: VideoStudent, label_smoothing: float = 0.0) -> None:
        self.trainable: nn.Module = student
        self.clip, self.classes, self.label_smoothing = student.clip, student.num_classes, label_smoothing

    def loss(self, trainable: nn.Module, batch: ClipBatch) -> LossReport:
        """Returns the mean cross-entropy over the batch and the clip accuracy.

        Raises:
            DataError: a label is not a class number; torch would ignore -100 in silence.
        """
        low, high = int(batch.labels_B.min()), int(batch.labels_B.max())
        if low < 0 or high >= self.classes:
            raise DataError(
                "E310",
                f"labels run from {low} to {high}, the student has {self.classes} classes. "
                "Finetune on labelled videos, with one class for each label.",
            )
        logits_BK = trainable(normalise(batch.clips_u8, self.clip.mean, self.clip.std)).float()
        targets = batch.labels_B if batch.targets_BK is None else batch.targets_BK
        total = functional.cross_entropy(logits_BK, targets, label_smoothing=self.label_smoothing)
        accuracy = (logits_BK.argmax(1) == batch.labels_B).float().mean()
        return LossReport(total, {"loss": total.detach(), "clip_accuracy": accuracy})
