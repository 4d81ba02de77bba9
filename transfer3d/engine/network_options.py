"""What a run's configuration changes in the way a network computes, not in what it computes."""

from __future__ import annotations

from typing import Any

from torch import nn

from transfer3d.engine.config import Training
from transfer3d.errors import UsageError
from transfer3d.nn.as_2d import use_2d_convolutions


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
        student = getattr(objective, "student", objective)
        getattr(student, "trunk", student).compile()


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
