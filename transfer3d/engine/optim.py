"""The optimiser: timm's, over parameters grouped by learning-rate scale and weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

if TYPE_CHECKING:  # recipes are read without torch
    from torch import nn
    from torch.optim import Optimizer


class OptimizerConfig(BaseModel):
    """The optimiser, and the learning rates of the network's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["sgd", "momentum", "adamw"] = "sgd"
    """sgd has Nesterov momentum, momentum is plain SGD with momentum; both use `momentum`."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay; not applied to biases, normalisation layers and a network's `no_weight_decay()`."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Maximum norm of the whole gradient; none = no clipping."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Factor of the learning rate from each layer to the one before it; the head has the full rate."""
    lr_scale: dict[str, NonNegativeFloat] = {}
    """Factor of the learning rate of a part of the network; 0 = frozen. By module name, e.g. "trunk.res5";
    * matches any characters. If several names match, the longest applies."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then validated and published."""


def make_optimizer(module: nn.Module, lr: float, config: OptimizerConfig, fused: bool = False) -> Optimizer:
    """Builds timm's optimiser over the parameters that need a gradient.

    A group's learning rate is the schedule's times its `lr_scale`. `fused` updates all weights in one kernel.

    Raises:
        UsageError: a name in `config.lr_scale` matches no parameter.
    """
    from timm.optim import create_optimizer_v2
    from torch import zeros_like

    from transfer3d.engine.parameter_groups import parameter_groups

    groups = parameter_groups(
        module, lr_scale=config.lr_scale, layer_decay=config.layer_decay, weight_decay=config.weight_decay
    )
    name = "momentum" if config.name == "sgd" and config.momentum == 0 else config.name
    options: dict[str, Any] = {"fused": True} if fused else {}
    optimizer = create_optimizer_v2(
        groups, opt=name, lr=lr, weight_decay=config.weight_decay, momentum=config.momentum, **options
    )
    if fused and name != "adamw" and config.momentum:
        # torch's fused SGD fails where only some weights have a momentum yet, as after `head_first`.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of each group: `lr` times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def match_layout(optimizer: Optimizer) -> None:
    """Gives the optimiser's moments the layout of their parameters; values stay the same.

    A fused optimiser reads all as flat memory: in another layout a moment would belong to another weight.
    """
    from torch import Tensor, empty_like

    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = empty_like(parameter).copy_(value)
