"""Finds the module of a network that raised an error."""

from __future__ import annotations

import traceback

from torch import nn


def failing_module(error: BaseException, net: nn.Module) -> str:
    """Returns a clause that names the innermost module that raised an error, and the error.

    Args:
        error: caught, with its traceback.
        net: the network that was run.
    """
    names = {module: path for path, module in net.named_modules()}
    innermost: nn.Module = net
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and module in names:
            innermost = module
    message = " ".join(str(error).split())[:200]
    layer = f"its {type(innermost).__name__} '{names[innermost]}'"
    return f"{layer} raised {type(error).__name__} {message}".rstrip()
