"""Which part of a network an error came from."""

from __future__ import annotations

import traceback

from torch import nn


def culprit(error: BaseException, net: nn.Module) -> str:
    """Names the innermost module of a network in whose code an error was raised, and what it said.

    Args:
        error: caught, with its traceback.
        net: that was run.
    """
    names = {module: path for path, module in net.named_modules()}
    found: nn.Module = net
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and module in names:
            found = module
    said = " ".join(str(error).split())[:200]
    return f"its {type(found).__name__} '{names[found]}' says {type(error).__name__} {said}".rstrip()
