"""Tensors of all processes, with gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Returns the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_gather(rows: Tensor) -> Tensor:
    """Returns the rows of all processes, in the order of their ranks.

    The gradient of a row is the sum of what all processes have for it. Where each process computes the same
    loss of all rows, the mean over processes that DDP takes is then the gradient of that one loss.

    Args:
        rows: of this process, the same number in each.
    """
    return rows if world_size() == 1 else _AllGather.apply(rows)  # pyright: ignore[reportReturnType]


def from_first_rank(tensor: Tensor) -> Tensor:
    """Returns the first process's tensor: what is drawn at random must be the same everywhere."""
    if world_size() > 1:
        dist.broadcast(tensor, 0)
    return tensor


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
