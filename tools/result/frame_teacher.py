"""The teacher without a student: its features of single frames, averaged, and a linear head on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer3d import ClipBatch, FrozenTeacher, LossReport


class FrameTeacher(nn.Module):
    """An objective whose linear head learns from the same labelled clips as the students.

    Args:
        teacher: frozen.
        num_classes: K.
        seed: of the head's initial weights.
    """

    def __init__(self, teacher: FrozenTeacher, num_classes: int, *, seed: int) -> None:
        super().__init__()
        self.teacher = teacher
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.BatchNorm1d(teacher.num_features, affine=False),
                nn.Linear(teacher.num_features, num_classes),
            )

    def logits(self, clips: Tensor) -> Tensor:
        """Returns B K for uint8 clips."""
        return self.head(self.teacher(clips).features)

    def forward(self, batch: ClipBatch) -> LossReport:
        """Returns the mean cross-entropy and the clip accuracy."""
        logits_BK = self.logits(batch.clips).float()
        total = functional.cross_entropy(logits_BK, batch.labels)
        accuracy = (logits_BK.argmax(1) == batch.labels).float().mean()
        return LossReport(total, {"loss": total.detach(), "clip_accuracy": accuracy})
