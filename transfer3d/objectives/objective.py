"""What a training objective gets and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from transfer3d.batch import ClipBatch


@dataclass(frozen=True)
class LossReport:
    """What one forward pass of an objective found.

    Attributes:
        total: scalar, already weighted; the only thing that backward() sees.
        parts: detached scalars by name, for the log: unweighted losses and accuracies (0..1).
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective(Protocol):
    """A task: what learns, and how its loss comes about."""

    @property
    def trainable(self) -> nn.Module:
        """All that the optimiser, DDP and checkpoints see; a teacher stays outside of it."""
        ...

    def loss(self, trainable: nn.Module, batch: ClipBatch) -> LossReport:
        """Returns the loss of one batch on the device; `trainable` is the module as DDP wrapped it."""
        ...
