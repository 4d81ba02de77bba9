"""Builds networks on the `meta` device: shapes without values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def on_meta() -> Iterator[None]:
    """Builds modules on the `meta` device without drawing normal or truncated normal values there.

    torch draws them with code that imports torch._dynamo, which takes as long as `import torch`.
    """
    with torch.device("meta"), _NoNormalInit():
        yield


def give_memory(module: Module) -> Module:
    """Allocates uninitialised CPU memory for a module that was built on the `meta` device.

    Like `to_empty`, but without importing sympy.
    """
    return module._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu"))


class _NoNormalInit(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_, Tensor.clamp_):
            tensor: Tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
