"""Turns on that activations are computed again in the backward pass instead of kept."""

from __future__ import annotations

from typing import Any

from torch import nn

from transfer3d.errors import UsageError


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
