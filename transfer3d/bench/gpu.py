"""Training steps on a GPU, as shares of its roofline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

import torch

from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.networks import training_step
from transfer3d.bench.roofline import TERA, Rates, count_step, measure_rates
from transfer3d.engine.network_options import compile_network
from transfer3d.models.factory import create_model
from transfer3d.nn.as_2d import use_2d_convolutions
from transfer3d.nn.memory_format import to_channels_last

STUDENTS = {"p3d63": 32, "t3d121": 16, "v4d_resnet50": 4}
"""Students and their batch sizes."""
WAYS = {
    "bf16": (False, False),
    "bf16, 2D convolutions": (True, False),
    "bf16, compiled": (False, True),
    "bf16, 2D convolutions, compiled": (True, True),
}
"""Whether convolutions are computed in 2D, and whether the network is compiled."""


def gpu_cases(
    students: Mapping[str, int] = STUDENTS,
    ways: Mapping[str, tuple[bool, bool]] = WAYS,
    rates: Rates | None = None,
) -> Iterator[Case]:
    """Yields training steps against waiting as long as the roofline says: the ratio is the share of it.

    Args:
        students: batch sizes by name.
        ways: see `WAYS`.
        rates: the device's; None = measure them.
    """
    for name, batch in students.items():
        step = count_step(name, batch)
        for way, (flat, compiled) in ways.items():
            yield Case(
                name=f"{name}, step of {batch} clips: share of the GPU's roofline",
                phase="step",
                ours=way,
                baseline="roofline",
                at_least=None,
                build=_build(name, batch, flat=flat, compiled=compiled, rates=rates),
                counts={"TFLOP": (step.flops / TERA, step.flops / TERA)},
            )


def _build(
    name: str, batch: int, *, flat: bool, compiled: bool, rates: Rates | None
) -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        student = create_model(name).to(device)
        to_channels_last(student)
        clip = student.clip
        folded = torch.randn(replace(clip, units=1).shape(batch * clip.units), device=device)
        folded = folded.to(memory_format=torch.channels_last_3d)
        clips = folded.unflatten(0, (batch, -1)) if clip.units > 1 else folded
        if flat:
            use_2d_convolutions(student)
        if compiled:
            compile_network(student)
        shortest = (rates or _rates(device)).seconds(count_step(name, batch))
        return Comparison(
            ours=training_step(student, clips, bf16=True), baseline=lambda: time.sleep(shortest)
        )

    return build


@cache
def _rates(device: torch.device) -> Rates:
    return measure_rates(device)
