"""What a training objective is: a module that turns a batch into a loss.

Any `nn.Module` whose `forward(batch)` returns a `LossReport` can be trained. Where its loss is a mean over
clips, nothing more is needed. An objective that compares the clips of a batch with each other derives from
`PairwiseObjective`, so that its negatives are those of the whole optimiser step, however many processes and
gradient-accumulation parts compute it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from transfer3d.batch import ClipBatch
from transfer3d.objectives.gather import all_gather


@dataclass(frozen=True)
class LossReport:
    """What one forward pass of an objective returns.

    Attributes:
        total: scalar, weighted; the only tensor that `backward()` is called on.
        parts: detached scalars by name, for the log: unweighted losses and accuracies (0..1).
    """

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class Embeddings:
    """What a pairwise objective compares, one row for each clip.

    Attributes:
        features: the student's, B D.
        teacher_features: B D', detached.
        sources: int64 identifiers of the source videos, B.
        logits: the student's class scores, B K; None where no term of the loss reads them.
        teacher_logits: B K, detached; None where the teacher has no classes.
    """

    features: Tensor
    teacher_features: Tensor
    sources: Tensor
    logits: Tensor | None = None
    teacher_logits: Tensor | None = None

    @property
    def differentiable(self) -> list[Tensor]:
        """The tensors that the student's gradient flows through."""
        return [self.features] if self.logits is None else [self.features, self.logits]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Returns the embeddings with a function applied to every tensor."""
        return replace(
            self, **{name: function(rows) for name, rows in vars(self).items() if rows is not None}
        )

    @staticmethod
    def concatenate(parts: Sequence[Embeddings]) -> Embeddings:
        """Returns the rows of several parts of a batch as one."""
        columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        joined = {name: torch.cat(rows) for name, rows in columns.items() if rows[0] is not None}
        return replace(parts[0], **joined)


class PairwiseObjective(nn.Module, ABC):
    """An objective whose loss compares every clip of the optimiser step with every other."""

    @abstractmethod
    def embed(self, batch: ClipBatch) -> Embeddings:
        """Returns what is compared: the expensive half, in which each clip is seen by itself."""

    @abstractmethod
    def compare(self, embeddings: Embeddings) -> LossReport:
        """Returns the loss of some clips among each other: the cheap half."""

    def compare_all(self, embeddings: Embeddings) -> LossReport:
        """Returns the loss of the clips of all processes.

        Args:
            embeddings: of this process's clips, as many as in every other process.
        """
        return self.compare(embeddings.map(all_gather))

    def forward(self, batch: ClipBatch, earlier: Embeddings | None = None) -> LossReport:
        """Returns the loss over the clips of all processes.

        Args:
            batch: this process's clips.
            earlier: embeddings, without graph, of the parts of this process's batch that came before.
        """
        embeddings = self.embed(batch)
        if earlier is not None:
            embeddings = Embeddings.concatenate([earlier, embeddings])
        return self.compare_all(embeddings)
