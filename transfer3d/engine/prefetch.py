"""Copies the next batch to the GPU while the current one is computed on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from transfer3d.batch import ClipBatch


def prefetched(batches: Iterable[ClipBatch], device: torch.device) -> Iterator[ClipBatch]:
    """Yields batches on a GPU, each copied from pinned memory on a stream of its own, one batch ahead.

    Args:
        batches: on the CPU.
        device: a GPU; for another device the batches are yielded as they are.
    """
    if device.type != "cuda":
        yield from batches
        return
    side, ahead = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(side):
            following = _pinned(batch).to(device)
        if ahead is not None:
            yield _arrived(ahead, side)
        ahead = following
    if ahead is not None:
        yield _arrived(ahead, side)


def _pinned(batch: ClipBatch) -> ClipBatch:
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **{name: tensor.pin_memory() for name, tensor in tensors.items()})


def _arrived(batch: ClipBatch, side: torch.cuda.Stream) -> ClipBatch:
    """Lets the current stream wait for the copies, and keeps their memory until it has used them."""
    current = torch.cuda.current_stream(side.device)
    current.wait_stream(side)
    for value in vars(batch).values():
        if isinstance(value, Tensor):
            value.record_stream(current)
    return batch
