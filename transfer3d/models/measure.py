"""Parameters and GMAC of a student, counted on the `meta` device without computing values."""

from __future__ import annotations

import torch

from transfer3d.models.costs import Cost
from transfer3d.models.factory import create_model
from transfer3d.models.student import VideoStudent
from transfer3d.nn.on_meta import on_meta

FLOPS_PER_GMAC = 2e9


def count_parameters(student: torch.nn.Module) -> int:
    """Returns the number of parameters, head included."""
    return sum(parameter.numel() for parameter in student.parameters())


def count_gmac(student: VideoStudent, shape: tuple[int, ...] | None = None) -> float:
    """Returns the GMAC (1e9 multiply-accumulates) of one forward pass: convolutions and linear layers.

    Args:
        student: on the `meta` device.
        shape: shape of the input, batch included; by default batch 1 of the student's own clip.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    clips = torch.empty(shape or student.clip.shape(1), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        student.eval()(clips)
    return counter.get_total_flops() / FLOPS_PER_GMAC


def measure(name: str) -> Cost:
    """Measures a registered student at its own clip.

    Raises:
        UsageError: no such student.
    """
    with on_meta():
        student = create_model(name)
    return Cost(parameters=count_parameters(student), gmac=count_gmac(student))
