"""Training steps on a GPU, as a share of its bf16 matrix multiplication rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.networks import training_step
from transfer3d.engine.memory_format import to_channels_last
from transfer3d.models.factory import create_model
from transfer3d.models.measure import FLOPS_PER_GMAC, measure

STUDENTS = {"p3d63": 32, "t3d121": 16, "v4d_resnet50": 4}
"""Students and their batch sizes."""

MATMUL = 4096
PASSES = 3  # forward, and the gradients of input and weights


def gpu_cases() -> Iterator[Case]:
    """Yields training steps against matrix products with as many operations; the ratio is the share."""
    for name, batch in STUDENTS.items():
        yield Case(
            name=f"{name}, step of {batch} clips: share of the GPU's bf16 rate",
            phase="step",
            ours="bf16, compiled",
            baseline=f"bf16 {MATMUL}x{MATMUL} products",
            at_least=None,
            build=_build(name, batch),
        )


def _build(name: str, batch: int) -> Callable[[torch.device], Comparison]:
    def build(device: torch.device) -> Comparison:
        student = create_model(name).to(device)
        to_channels_last(student)
        clip = student.clip
        units = (clip.units,) if clip.units > 1 else ()
        folded = torch.randn(batch * clip.units, 3, clip.frames, clip.size, clip.size, device=device)
        folded = folded.to(memory_format=torch.channels_last_3d)
        clips = folded.unflatten(0, (batch, *units)) if units else folded
        student.compile()
        products = round(PASSES * batch * measure(name).gmac * FLOPS_PER_GMAC / (2 * MATMUL**3))
        left, right = torch.randn(2, MATMUL, MATMUL, device=device, dtype=torch.bfloat16)

        def multiply() -> None:
            for _ in range(max(1, products)):
                torch.mm(left, right)

        return Comparison(ours=training_step(student, clips, bf16=True), baseline=multiply)

    return build
