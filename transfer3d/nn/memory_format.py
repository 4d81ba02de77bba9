"""Channels last, the memory layout in which convolutions are fastest."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By a tensor's number of axes."""


def to_channels_last(module: nn.Module) -> list[nn.Parameter]:
    """Converts the kernels of 2D and 3D convolutions to channels-last layout, in place.

    Returns:
        The parameters whose layout changed; values stay the same.
    """
    changed = []
    for parameter in module.parameters():
        layout = FORMATS.get(parameter.ndim)
        if layout is not None and not parameter.is_contiguous(memory_format=layout):
            parameter.data = parameter.data.contiguous(memory_format=layout)
            changed.append(parameter)
    return changed


@contextmanager
def channels_last(module: nn.Module) -> Iterator[None]:
    """Temporarily converts a module to channels-last layout."""
    changed = to_channels_last(module)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.data = parameter.data.contiguous()
