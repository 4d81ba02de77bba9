"""BatchNorm folded into the convolution before it: the same outputs from fewer operations."""

from __future__ import annotations

import copy

from torch import nn

from transfer3d.models.fold import Pair, without_norms
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
"""Modules in which a BatchNorm directly follows a convolution: the names of both."""


def fuse(student: VideoStudent) -> VideoStudent:
    """Returns a copy in eval mode without the BatchNorms that follow a convolution.

    The copy is for inference: it has other tensors than its checkpoint, so save the student itself.

    Args:
        student: any student; it is not changed.
    """
    return without_norms(copy.deepcopy(student).eval(), student_pairs(student))


def student_pairs(student: VideoStudent) -> list[Pair]:
    """Returns the names of every convolution and of the BatchNorm that follows it."""
    pairs = list[Pair]()
    for name, module in student.named_modules():
        if type(module) not in PAIRS:
            continue
        conv_name, norm_name = PAIRS[type(module)]
        conv, norm = getattr(module, conv_name), getattr(module, norm_name)
        if isinstance(conv, (nn.Conv3d, Conv4d)) and isinstance(norm, nn.BatchNorm3d):
            pairs.append((f"{name}.{conv_name}", f"{name}.{norm_name}"))
    return pairs
