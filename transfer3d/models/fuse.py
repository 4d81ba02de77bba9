"""BatchNorm folded into the convolution in front of it: the same answers from fewer operations."""

from __future__ import annotations

import copy

import torch
from torch import nn

from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.densenet3d import DenseLayer
from transfer3d.nn.conv4d import Conv4d
from transfer3d.nn.convolution import ConvNorm
from transfer3d.nn.factorised4d import Factorised4d, FactorisedBlock
from transfer3d.nn.residual4d import Residual4d

PAIRS: dict[type[nn.Module], tuple[str, str]] = {
    ConvNorm: ("conv", "norm"),
    DenseLayer: ("conv1", "norm2"),
    Residual4d: ("conv", "norm"),
    Factorised4d: ("spatial", "norm"),
    FactorisedBlock: ("expand", "norm"),
}
"""Where a BatchNorm stands right behind a convolution."""


@torch.no_grad()
def fuse(student: VideoStudent) -> VideoStudent:
    """Returns a copy in eval mode without the BatchNorms that follow a convolution.

    The copy is for inference: it has other tensors than its checkpoint, so save the student itself.

    Args:
        student: any student; it is not changed.
    """
    fused = copy.deepcopy(student).eval()
    for module in fused.modules():
        if type(module) in PAIRS:
            conv_name, norm_name = PAIRS[type(module)]
            conv, norm = getattr(module, conv_name), getattr(module, norm_name)
            if isinstance(conv, (nn.Conv3d, Conv4d)) and isinstance(norm, nn.BatchNorm3d):
                _fold(conv, norm)
                setattr(module, norm_name, nn.Identity())
    return fused


def _fold(conv: nn.Conv3d | Conv4d, norm: nn.BatchNorm3d) -> None:
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    factor = norm.weight / (variance + norm.eps).sqrt()
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias
    conv.weight.mul_(factor.view(-1, *(1,) * (conv.weight.ndim - 1)))
    conv.bias = nn.Parameter((bias - mean) * factor + norm.bias)
