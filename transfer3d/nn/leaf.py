"""Functions that torch.fx records as one call, because they branch on what they are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch.fx import Proxy

P = ParamSpec("P")
R = TypeVar("R")


def leaf(function: Callable[P, R]) -> Callable[P, R]:
    """Lets `torch.fx.symbolic_trace` record calls of a module's function instead of looking into it.

    Unlike with `torch.fx.wrap`, so are the calls by modules that import the function. A graph can hold these
    arguments: tensors, numbers, strings, types, None, and tuples of them.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Proxy):
                recorded: Any = value.tracer.create_proxy("call_function", call, args, kwargs)
                return recorded
        return function(*args, **kwargs)

    return call
