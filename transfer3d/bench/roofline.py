"""The roofline of a training step: a lower bound on its time on a device.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures" (2009): a step takes at least the time of its arithmetic, and at least that of its traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transfer3d.models.factory import create_model
from transfer3d.models.measure import FLOPS_PER_GMAC, count_gmac
from transfer3d.nn.on_meta import on_meta

PASSES = 3
"""Of arithmetic: forward, and the gradients of input and weights."""
MOVES = 14
"""How often the outputs of a convolution cross the memory bus in a step, BatchNorm and ReLU fused.

Forward 5: written; read for the statistics; read and written by the normalisation; read by the next
convolution. Backward 9: the normalisation reads gradient and output for its sums, and again to write its own
gradient (5); the input's is read for and written; the weights' reads gradient and input (4).
"""
BF16_BYTES, TERA = 2, 1e12
PRODUCT, COPY_BYTES = 4096, 1 << 30


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one training step has to do.

    Attributes:
        flops: of its matrix products.
        bytes: between memory and processor.
    """

    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a device does in a second: flops of large bf16 products, bytes moved by large copies."""

    flops: float
    bytes: float

    def seconds(self, step: Step) -> float:
        """Returns the roofline of a step."""
        return max(step.flops / self.flops, step.bytes / self.bytes)


def count_step(name: str, batch: int) -> Step:
    """Counts a step of a registered student at its own clip, in bf16.

    Args:
        name: of the student.
        batch: number of clips, or of videos.
    """
    with on_meta():
        student = create_model(name)
    outputs = 0

    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal outputs
        outputs += output.numel()

    convolutions = [part for part in student.modules() if isinstance(part, nn.Conv3d)]
    hooks = [part.register_forward_hook(add) for part in convolutions]
    gmac = count_gmac(student)
    for hook in hooks:
        hook.remove()
    return Step(
        flops=PASSES * batch * gmac * FLOPS_PER_GMAC, bytes=MOVES * BF16_BYTES * batch * float(outputs)
    )


def measure_rates(device: torch.device, *, product: int = PRODUCT, copy_bytes: int = COPY_BYTES) -> Rates:
    """Measures a device: the best of several runs.

    Args:
        device: a GPU, or the CPU.
        product: rows of the square matrices.
        copy_bytes: size of what is copied.
    """
    left, right = torch.randn(2, product, product, device=device, dtype=torch.bfloat16)
    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(
        flops=2 * product**3 / _best(lambda: torch.mm(left, right), device),
        bytes=2 * copy_bytes / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], Any], device: torch.device, runs: int = 10) -> float:
    seconds = []
    for _ in range(runs + 1):  # the first one warms up
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
