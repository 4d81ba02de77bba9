"""The learning rate of every step: a pure function of the step, and of the validation scores so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = float


class ScheduleConfig(BaseModel):
    """The learning rate over the run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["constant", "cosine", "step", "plateau", "manual"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of all steps in which the learning rate rises linearly from 0."""
    milestones: tuple[float, ...] = ()
    """Shares of all steps at which `step` lowers the learning rate."""
    decay: float = Field(default=0.1, gt=0, lt=1)
    """Factor of the learning rate: applied by `step` at a milestone, by `plateau` when the score stalls."""
    patience: int = Field(default=5, ge=1)
    """Number of validations in a row without a better score after which `plateau` lowers the rate."""
    rates: tuple[tuple[Share, float], ...] = ()
    """For `manual`: pairs of a share of all steps and the rate from then on; `lr` before the first."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, shares in (("milestones", self.milestones), ("rates", [share for share, _ in self.rates])):
            if list(shares) != sorted(shares) or any(not 0 <= share <= 1 for share in shares):
                raise ValueError(f"{name} must be shares of the run, from 0 to 1, in increasing order")
        if any(rate < 0 for _, rate in self.rates):
            raise ValueError("rates must not be negative")
        return self


def learning_rate(
    step: int, steps: int, lr: float, config: ScheduleConfig, scores: Sequence[float] = ()
) -> float:
    """Returns the learning rate of a step.

    Args:
        step: from 0.
        steps: number of steps of the whole run.
        lr: peak learning rate.
        config: schedule settings.
        scores: scores of the validations before this step, higher is better; only used by `plateau`.
    """
    warmup = round(config.warmup * steps)
    if step < warmup:
        return lr * step / warmup
    match config.kind:
        case "cosine":
            return lr * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        case "step":
            return lr * config.decay ** sum(step >= round(share * steps) for share in config.milestones)
        case "plateau":
            return lr * config.decay ** count_plateaus(scores, config.patience)
        case "manual":
            reached = [rate for share, rate in config.rates if step >= round(share * steps)]
            return reached[-1] if reached else lr
    return lr


def count_plateaus(scores: Sequence[float], patience: int) -> int:
    """Returns how often `patience` validations in a row had no better score."""
    best, stale, plateaus = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, stale = score, 0
        else:
            stale += 1
        if stale == patience:
            plateaus, stale = plateaus + 1, 0
    return plateaus


def stale_validations(scores: Sequence[float]) -> int:
    """Returns the number of validations since the best score."""
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0
