"""What a run's configuration changes in the way a step computes, not in what it computes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.engine.config import Training
from transfer3d.engine.prefetch import prefetched
from transfer3d.errors import UsageError
from transfer3d.models.trunks.trunk import Trunk
from transfer3d.nn.as_2d import use_2d_convolutions

log = logging.getLogger(__name__)


def apply_options(objective: nn.Module, config: Training) -> None:
    """Recomputes activations, replaces 3D convolutions and compiles, as configured.

    Raises:
        UsageError: the network cannot recompute its activations.
    """
    if config.activation_checkpointing:
        recompute_activations(objective)
    if config.gpu.convolutions == "2d":
        use_2d_convolutions(objective)
    if config.compile:
        compile_network(getattr(objective, "student", objective))


def compile_network(network: nn.Module) -> None:
    """Lets torch.compile compile a student's trunk, or another network, when it is first called."""
    trunk = getattr(network, "trunk", network)
    for part in trunk.compiled_parts() if isinstance(trunk, Trunk) else [trunk]:
        part.compile()


def apply_to_batches(
    batches: Iterable[ClipBatch], config: Training, device: torch.device
) -> Iterable[ClipBatch]:
    """Prefetches batches, and logs how long the step with the compilation took, as configured."""
    if config.gpu.prefetch:
        batches = prefetched(batches, device)
    return _announce_compilation(batches) if config.compile else batches


def _announce_compilation(batches: Iterable[ClipBatch]) -> Iterator[ClipBatch]:
    """Yields the batches; the time until the second is asked for is that of the first step."""
    log.info("torch.compile: the first step compiles the network, which takes minutes")
    for number, batch in enumerate(batches):
        started = time.monotonic()
        yield batch
        if number == 0:
            log.info("torch.compile: the first step took %.0f s", time.monotonic() - started)


def recompute_activations(objective: nn.Module) -> None:
    """Calls `set_grad_checkpointing` of the network that an objective trains.

    Raises:
        UsageError: the network cannot recompute its activations.
    """
    network: Any = getattr(objective, "student", objective)
    remedy = "Set activation_checkpointing=false"
    if not hasattr(network, "set_grad_checkpointing"):
        raise UsageError(f"activation_checkpointing: {type(network).__name__} cannot. {remedy}.")
    try:
        network.set_grad_checkpointing(True)
    except AssertionError as error:  # timm's networks that cannot say so by an assertion
        raise UsageError(f"activation_checkpointing: {error}. {remedy}.") from None
