"""Estimates before training how large a batch fits into memory, and how long a step takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from transfer3d.batch import ClipBatch
from transfer3d.engine.live_memory import step_bytes
from transfer3d.engine.out_of_memory import is_out_of_memory, step_fits
from transfer3d.objectives.objective import LossReport, PairwiseObjective

PROBE_CLIPS = 2  # the smallest batch with a negative pair
TIMED_CLIPS = 8
HEADROOM = 0.8  # share of the free memory that a step may plan for
WORKSPACE = 1.3  # factor for the workspace of convolutions, which is not counted


@dataclass(frozen=True)
class MemoryPlan:
    """The estimated needs of a training step in one process.

    Attributes:
        batch_size: clips of one process in one step.
        step_bytes: estimated peak memory of a step.
        free_bytes: currently free memory.
        step_seconds: estimated time of a step, decoding not included.
    """

    batch_size: int
    step_bytes: int
    free_bytes: int
    step_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the step is expected to stay within the free memory."""
        return self.step_bytes <= HEADROOM * self.free_bytes


def plan_batch(
    objective: nn.Module,
    accelerator: Accelerator,
    make_batch: Callable[[int], ClipBatch],
    *,
    batch_size: int | None,
    largest: int,
) -> MemoryPlan:
    """Estimates a step from two clips; without a `batch_size`, halves `largest` until it fits.

    Weights, statistics and gradients are restored.

    Args:
        objective: to be trained; it runs in this process only, without collectives.
        accelerator: device and precision.
        make_batch: creates a batch of n clips of any content.
        batch_size: clips of one process; None = search.
        largest: start of the search.

    Raises:
        SetupError: not even two clips fit.
    """
    objective.to(accelerator.device)
    kept = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    probe = make_batch(PROBE_CLIPS)
    with step_fits():
        activation_bytes = step_bytes(objective, lambda: _loss(objective, accelerator, probe))
        started = time.perf_counter()  # after the first step, which includes lazy initialisation
        _step(objective, accelerator, probe)
    seconds = time.perf_counter() - started
    fixed = 4 * sum(p.numel() * p.element_size() for p in objective.parameters())
    free = free_memory(accelerator.device)

    def plan(count: int, step_seconds: float = 0.0) -> MemoryPlan:
        needed = fixed + int(WORKSPACE * activation_bytes * count / PROBE_CLIPS)
        return MemoryPlan(count, needed, free, step_seconds)

    chosen = plan(batch_size or largest)
    while (
        batch_size is None
        and chosen.batch_size > PROBE_CLIPS
        and not _runs(objective, accelerator, make_batch, chosen)
    ):
        chosen = plan(max(chosen.batch_size // 2, PROBE_CLIPS))
    # For small clips the layers' constant overhead dominates, and a step of two clips already includes it.
    clip_seconds = seconds / PROBE_CLIPS
    if chosen.batch_size > TIMED_CLIPS and plan(TIMED_CLIPS).fits:
        started = time.perf_counter()
        _step(objective, accelerator, make_batch(TIMED_CLIPS))
        more = time.perf_counter() - started - seconds
        clip_seconds = min(max(more, 0) / (TIMED_CLIPS - PROBE_CLIPS), clip_seconds)
    objective.load_state_dict(kept)
    objective.zero_grad()
    return plan(chosen.batch_size, seconds + (chosen.batch_size - PROBE_CLIPS) * clip_seconds)


def _runs(
    objective: nn.Module, accelerator: Accelerator, make_batch: Callable[[int], ClipBatch], plan: MemoryPlan
) -> bool:
    """Whether the plan fits; on a GPU the step is run, since running out of memory there is harmless."""
    if not plan.fits or accelerator.device.type == "cpu":
        return plan.fits
    try:
        _step(objective, accelerator, make_batch(plan.batch_size))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        torch.cuda.empty_cache()
        return False
    return True


def _step(objective: nn.Module, accelerator: Accelerator, batch: ClipBatch) -> None:
    _loss(objective, accelerator, batch).backward()


def _loss(objective: nn.Module, accelerator: Accelerator, batch: ClipBatch) -> Tensor:
    objective.train()
    moved = batch.to(accelerator.device)
    with accelerator.autocast():
        if isinstance(objective, PairwiseObjective):  # its forward pass calls collectives
            report = objective.compare(objective.embed(moved))
        else:
            report: LossReport = objective(moved)
    return report.total


def free_memory(device: torch.device) -> int:
    """Returns the free bytes of a device; for the CPU, those available without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def readable_bytes(count: int) -> str:
    """Returns e.g. "1.5 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def readable_seconds(seconds: float) -> str:
    """Returns e.g. "45 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
