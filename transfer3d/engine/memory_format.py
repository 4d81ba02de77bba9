"""Channels last: the memory layout in which convolutions are fastest."""

import torch
from torch import nn

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(module: nn.Module) -> None:
    """Puts the kernels of 2D and 3D convolutions into channels-last layout, in place; values stay."""
    for parameter in module.parameters():
        if parameter.ndim in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.ndim])
