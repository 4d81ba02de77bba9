"""What a training objective gets and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class LossReport:
    """What one forward pass of an objective found.

    Attributes:
        total: scalar, already weighted; the only thing that backward() sees.
        parts: detached scalars by name, for the log: unweighted losses and accuracies (0..1).
    """

    total: Tensor
    parts: dict[str, Tensor]


class ClipBatch(Protocol):
    """What an objective reads of a batch; `data.pipeline.Batch` is one."""

    @property
    def clips_u8(self) -> Tensor:
        """Pixels, uint8, B C T H W or B U C T H W."""
        ...

    @property
    def labels_B(self) -> Tensor:
        """Class numbers, int64; -1 where there is none."""
        ...

    @property
    def targets_BK(self) -> Tensor | None:
        """Shares of the classes, float, where clips are mixed; None = the labels."""
        ...

    @property
    def seconds_u8(self) -> Tensor | None:
        """Another view of the same frames, as `clips_u8`; None = there is none."""
        ...

    @property
    def second_names(self) -> Sequence[str] | None:
        """Names of the second views: equal names are equal pixels; None = they are drawn at random."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """The source video of each clip."""
        ...


class Objective(Protocol):
    """A task: what learns, and how its loss comes about."""

    @property
    def trainable(self) -> nn.Module:
        """All that the optimiser, DDP and checkpoints see; a teacher stays outside of it."""
        ...

    def loss(self, trainable: nn.Module, batch: ClipBatch) -> LossReport:
        """Returns the loss of one batch on the device; `trainable` is the module as DDP wrapped it."""
        ...
