"""Gradient accumulation: one optimiser step in several parts, with the gradient of the whole batch.

A loss that is a mean over clips is the mean over its parts. A loss that compares clips is not. For it, all
embeddings are first computed part by part without graph, then the gradient of the total loss with respect to
each embedding; then each part is computed again with its graph, and this gradient is backpropagated. So all
clips of the step are each other's negatives, with the memory of one part. This is the gradient cache of Gao
et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983, section
3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from transfer3d.batch import ClipBatch
from transfer3d.objectives.objective import Embeddings, LossReport, PairwiseObjective

Context = Callable[[], AbstractContextManager[object]]


def split_batch(batch: ClipBatch, count: int) -> list[ClipBatch]:
    """Splits a batch into `count` parts of equal size.

    Raises:
        ValueError: the number of clips is not divisible by `count`.
    """
    size, rest = divmod(len(batch), count)
    if rest:
        raise ValueError(f"{len(batch)} clips are not divisible by {count}")
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def mean_report(reports: Sequence[LossReport]) -> LossReport:
    """Returns the mean of the reports of the parts of a batch."""
    names = dict.fromkeys(name for report in reports for name in report.parts)
    parts = {
        name: torch.stack([report.parts[name] for report in reports if name in report.parts]).mean()
        for name in names
    }
    return LossReport(torch.stack([report.total.detach() for report in reports]).mean(), parts)


def backward_mean(
    wrapped: nn.Module, parts: Sequence[ClipBatch], *, autocast: Context, no_sync: Context
) -> LossReport:
    """Accumulates the gradient of a loss that is a mean over clips; DDP reduces it after the last part.

    Args:
        wrapped: the objective, in DDP if there are several processes.
        parts: parts of this process's batch.
        autocast: context of the forward pass's precision.
        no_sync: context in which DDP does not reduce gradients.
    """
    reports = []
    for part in parts[:-1]:
        with no_sync():
            reports.append(_backward(wrapped, part, autocast, len(parts)))
    reports.append(_backward(wrapped, parts[-1], autocast, len(parts)))
    return reports[0] if len(reports) == 1 else mean_report(reports)


def _backward(wrapped: nn.Module, part: ClipBatch, autocast: Context, count: int) -> LossReport:
    with autocast():
        report: LossReport = wrapped(part)
    (report.total / count).backward()
    return report


def backward_pairwise(
    objective: PairwiseObjective,
    wrapped: nn.Module,
    parts: Sequence[ClipBatch],
    *,
    autocast: Context,
    no_sync: Context,
) -> LossReport:
    """Accumulates the gradient of a loss that compares all clips of the step; see the top of this file.

    Both forward passes of a part draw the same random numbers, and buffers such as BatchNorm's statistics are
    updated once.

    Args:
        objective: the objective itself.
        wrapped: see `backward_mean`.
        parts: see `backward_mean`; at least two.
        autocast: see `backward_mean`.
        no_sync: see `backward_mean`.
    """
    *first, last = parts
    buffers = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    states: list[list[Tensor]] = []
    embeddings: list[Embeddings] = []
    with torch.no_grad(), autocast():
        for part in parts:
            states.append(_random_state(part.clips.device))
            embeddings.append(objective.embed(part))
    gradients = _embedding_gradients(objective, embeddings[:-1], embeddings[-1], autocast)
    for name, buffer in objective.named_buffers():
        buffer.copy_(buffers[name])
    for part, state, gradient in zip(first, states, gradients, strict=False):
        with no_sync(), _replay(state, part.clips.device):
            with autocast():
                again = objective.embed(part)
            torch.autograd.backward(again.differentiable, gradient)
    _set_random_state(states[-1], last.clips.device)
    with autocast():
        report: LossReport = wrapped(last, Embeddings.concatenate(embeddings[:-1]))
    report.total.backward()
    return report


def _embedding_gradients(
    objective: PairwiseObjective, first: list[Embeddings], last: Embeddings, autocast: Context
) -> list[list[Tensor]]:
    """Returns the gradient of the total loss with respect to the embeddings of each part but the last."""
    for part in first:
        for rows in part.differentiable:
            rows.requires_grad_()
    with _replay(_random_state(last.features.device), last.features.device), autocast():
        total = objective.compare_all(Embeddings.concatenate([*first, last])).total
    leaves = [rows for part in first for rows in part.differentiable]
    gradients = list(torch.autograd.grad(total, leaves, materialize_grads=True))
    for rows in leaves:
        rows.requires_grad_(False)
    width = len(last.differentiable)
    return [gradients[start : start + width] for start in range(0, len(gradients), width)]


def _random_state(device: torch.device) -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]


def _set_random_state(state: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def _replay(state: Sequence[Tensor], device: torch.device) -> Iterator[None]:
    """Temporarily sets the random generators to a state."""
    current = _random_state(device)
    _set_random_state(state, device)
    yield
    _set_random_state(current, device)
