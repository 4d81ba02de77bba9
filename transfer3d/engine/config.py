"""What a training run is told: the part of a recipe that does not depend on data or student."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.schedule import ScheduleConfig


class Training(BaseModel):
    """The keys that recipes and the trainer share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float = Field(gt=0)
    """Highest learning rate."""
    lr_base_batch: int | None = Field(default=None, ge=1)
    """Batch size that `lr` is meant for: all rates are multiplied by batch_size / lr_base_batch."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    accumulate: int = Field(default=1, ge=1)
    """Parts that a process computes its share of a batch in, one after the other, to save memory."""
    batch_norm: Literal["live", "partial", "frozen"] = "live"
    """Whose statistics follow the batches: all, only the first layer's (TSN), none. Scale and shift learn."""
    precise_batch_norm: int = Field(default=0, ge=0)
    """Training clips that BatchNorm's statistics are made from anew, for validation and publishing."""
    head_first: float = Field(default=0.0, ge=0)
    """How long only the head learns: below 1 a share of all steps, from 1 on their number."""
    early_stop: int = Field(default=0, ge=0)
    """Validations in a row without a better score after which the run ends; 0 = it goes to its end."""
    compile: bool = False
    """Whether torch.compile translates the network; the first steps then take minutes."""
    log_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=500, ge=1)
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations; none = only after the last step, or after each epoch where a plateau
    schedule or early_stop needs scores."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @property
    def needs_scores(self) -> bool:
        """Whether something acts on validation scores."""
        return self.early_stop > 0 or self.schedule.kind == "plateau"


class TrainerConfig(Training):
    """A training run whose length is known."""

    steps: int = Field(ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int | None = Field(default=None, ge=1)
    """Clips in one step, all processes together; needed where `lr_base_batch` is given."""
    keep_checkpoints: int = Field(default=2, ge=2)
    """At least 2: the last one may be the one that was being written when the lights went out."""

    @property
    def lr_factor(self) -> float:
        """What all learning rates are multiplied by."""
        if self.lr_base_batch is None or self.batch_size is None:
            return 1.0
        return self.batch_size / self.lr_base_batch

    @property
    def head_steps(self) -> int:
        """Steps at the start in which only the head learns."""
        return round(self.head_first * self.steps if self.head_first < 1 else self.head_first)
