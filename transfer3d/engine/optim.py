"""Optimiser and learning-rate schedule, counted in optimiser steps."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer


class OptimizerConfig(BaseModel):
    """Which optimiser, and how it decays weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["sgd", "momentum", "adamw"] = "sgd"
    """sgd is Nesterov's, momentum is plain; both with `momentum`."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    """Not applied to biases and normalisation."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; none = not clipped."""


class ScheduleConfig(BaseModel):
    """How the learning rate goes from its start to the end of the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["constant", "cosine", "step"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of all steps in which the learning rate rises linearly from 0."""
    milestones: tuple[float, ...] = ()
    """Shares of all steps at which `step` divides the learning rate."""
    decay: float = Field(default=0.1, gt=0, lt=1)
    """What `step` multiplies by at a milestone."""


def make_optimizer(module: nn.Module, lr: float, config: OptimizerConfig) -> Optimizer:
    """Builds timm's optimiser over the parameters that need a gradient."""
    return create_optimizer_v2(
        module, opt=config.name, lr=lr, weight_decay=config.weight_decay, momentum=config.momentum
    )


def make_schedule(optimizer: Optimizer, total_steps: int, config: ScheduleConfig) -> Scheduler:
    """Builds timm's scheduler; `step_update(n)` sets the rate of step n, a pure function of n."""
    warmup = round(config.warmup * total_steps)
    if config.kind == "cosine":
        return CosineLRScheduler(optimizer, t_initial=max(total_steps, 1), warmup_t=warmup, t_in_epochs=False)
    shares = config.milestones if config.kind == "step" else ()
    milestones = [round(share * total_steps) for share in shares]
    return MultiStepLRScheduler(
        optimizer, decay_t=milestones, decay_rate=config.decay, warmup_t=warmup, t_in_epochs=False
    )
