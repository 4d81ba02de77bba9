"""The optimiser: timm's, over parameters grouped by how fast they learn and whether they decay."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat
from torch import nn
from torch.optim import Optimizer

from transfer3d.engine.parameter_groups import parameter_groups


class OptimizerConfig(BaseModel):
    """Which optimiser, and how fast which part of the network learns."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["sgd", "momentum", "adamw"] = "sgd"
    """sgd is Nesterov's, momentum is plain; both with `momentum`."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    """Not applied to biases and normalisation."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; none = not clipped."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """What the learning rate is multiplied by from each layer to the one before it; the head's is whole."""
    lr_scale: dict[str, NonNegativeFloat] = {}
    """What the learning rate of a part of the network is multiplied by; 0 = it does not learn. By module
    name, e.g. "trunk.res5"; * matches any characters. Of several names that match, the longest counts."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights, which then is what is validated and published."""


def make_optimizer(module: nn.Module, lr: float, config: OptimizerConfig) -> Optimizer:
    """Builds timm's optimiser over the parameters that need a gradient.

    A group's learning rate is the schedule's times its `lr_scale`.

    Raises:
        UsageError: a name of `config.lr_scale` fits no parameter.
    """
    from timm.optim import create_optimizer_v2

    groups = parameter_groups(
        module, lr_scale=config.lr_scale, layer_decay=config.layer_decay, weight_decay=config.weight_decay
    )
    name = "momentum" if config.name == "sgd" and config.momentum == 0 else config.name
    return create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0, momentum=config.momentum)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of each group: `lr` times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
