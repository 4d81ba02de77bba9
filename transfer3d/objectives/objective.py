"""The interface of training objectives: modules that compute a loss from a batch.

Any `nn.Module` whose `forward(batch)` returns a `LossReport` can be trained. If its loss is a mean over
clips, nothing more is needed. An objective that compares the clips of a batch with each other subclasses
`PairwiseObjective`, so that its negatives are those of the whole optimiser step, however many processes and
gradient-accumulation steps compute it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from transfer3d.batch import ClipBatch


@dataclass(frozen=True)
class LossReport:
    """The result of one forward pass of an objective.

    Attributes:
        total: scalar, weighted; the only tensor that `backward()` is called on.
        parts: detached scalars by name, for the log: unweighted losses and accuracies (0..1).
    """

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class Embeddings:
    """The features that a pairwise objective compares, one row per clip.

    Attributes:
        features: the student's, B D.
        teacher_features: B D', detached.
        sources: int64 identifiers of the source videos, B.
        logits: the student's class scores, B K; None if no term of the loss uses them.
        teacher_logits: B K, detached; None if the teacher has no classes.
        dense: the error of each clip's feature maps, B; None if no term of the loss uses it.
    """

    features: Tensor
    teacher_features: Tensor
    sources: Tensor
    logits: Tensor | None = None
    teacher_logits: Tensor | None = None
    dense: Tensor | None = None

    @property
    def differentiable(self) -> list[Tensor]:
        """The tensors that the student's gradient flows through."""
        return [rows for rows in (self.features, self.logits, self.dense) if rows is not None]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Applies a function to every tensor."""
        return replace(
            self, **{name: function(rows) for name, rows in vars(self).items() if rows is not None}
        )

    @staticmethod
    def concatenate(parts: Sequence[Embeddings]) -> Embeddings:
        """Concatenates the embeddings of several parts of a batch."""
        columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        joined = {name: torch.cat(rows) for name, rows in columns.items() if rows[0] is not None}
        return replace(parts[0], **joined)


class PairwiseObjective(nn.Module, ABC):
    """An objective whose loss compares every clip of the optimiser step with every other."""

    @abstractmethod
    def embed(self, batch: ClipBatch) -> Embeddings:
        """Returns the embeddings: the expensive part, which treats each clip alone."""

    @abstractmethod
    def compare(self, embeddings: Embeddings) -> LossReport:
        """Returns the loss of these clips, each against all others: the cheap part."""

    def compare_all(self, embeddings: Embeddings) -> LossReport:
        """Returns the loss of the clips of all processes.

        Args:
            embeddings: embeddings of this process's clips; every process has the same number.
        """
        gathered = embeddings.map(all_gather)
        if world_size() == 1:
            return self.compare(gathered)
        with first_rank_draws(embeddings.features.device):
            return self.compare(gathered)

    def forward(self, batch: ClipBatch, earlier: Embeddings | None = None) -> LossReport:
        """Returns the loss over the clips of all processes.

        Args:
            batch: this process's clips.
            earlier: detached embeddings of the preceding parts of this process's batch.
        """
        embeddings = self.embed(batch)
        if earlier is not None:
            embeddings = Embeddings.concatenate([earlier, embeddings])
        return self.compare_all(embeddings)


def world_size() -> int:
    """Returns the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_gather(rows: Tensor) -> Tensor:
    """Returns the rows of all processes, in the order of their ranks.

    The gradient of a row is summed over all processes. If each process computes the same loss of all rows,
    DDP's mean over processes is then the gradient of that one loss.

    Args:
        rows: rows of this process; every process has the same number.
    """
    return rows if world_size() == 1 else _AllGather.apply(rows)  # pyright: ignore[reportReturnType]


@contextmanager
def first_rank_draws(device: torch.device) -> Iterator[None]:
    """Makes every process draw the same random values, by a seed from rank 0's generator."""
    seed = torch.randint(2**62, (1,)).to(device)
    dist.broadcast(seed, 0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(seed))
        yield


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        gathered = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed.narrow(0, dist.get_rank() * ctx.count, ctx.count)
