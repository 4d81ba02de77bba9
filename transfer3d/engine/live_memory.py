"""Measures the peak memory of live tensors during a step, on any device including `meta`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Tracks every tensor created within the context, including in backward passes.

    Memory that operators allocate internally is not counted.

    Attributes:
        bytes: currently alive.
        peak: the maximum of `bytes`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.peak = 0, 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Called by torch for every operator."""
        known = {id(storage) for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if id(storage) not in known and id(storage) not in self._alive:
                self._follow(storage)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        number, size = id(storage), storage.nbytes()
        self._alive.add(number)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, number, size)

    def _forget(self, number: int, size: int) -> None:
        self._alive.discard(number)
        self.bytes -= size


def step_bytes(module: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Returns the peak bytes of a forward and a backward pass, without weights and gradients.

    Args:
        module: its gradients are zeroed first; afterwards they are those of the pass.
        loss: runs the forward pass and returns a scalar.
    """
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)  # created outside the context, so not counted
    with LiveMemory() as memory:
        loss().backward()
    return memory.peak


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
