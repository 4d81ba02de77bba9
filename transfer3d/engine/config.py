"""The configuration of a training run: the keys that recipes and the trainer share, and the trainer's own."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from transfer3d.data.augment_config import AugmentConfig
from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.schedule import ScheduleConfig


class GpuConfig(BaseModel):
    """Ways to use a GPU better, all off: `tools/gpu_check.sh` measures which of them pay on a GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    convolutions: Literal["3d", "2d"] = "3d"
    """2d: kernels along one or two axes are computed as 2D convolutions and matrix products."""
    prefetch: bool = False
    """Whether the next batch is copied to the GPU while the current one is computed on."""
    fused_optimizer: bool = False
    """Whether the optimiser updates all weights in one kernel."""
    gradient_views: bool = False
    """Whether DDP's gradients are views of the buffers that it sends, instead of copies."""


class Training(BaseModel):
    """The keys that recipes and the trainer share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float = Field(gt=0)
    """Peak learning rate."""
    lr_base_batch: int | None = Field(default=None, ge=1)
    """Batch size for which `lr` is given: all rates are multiplied by batch_size / lr_base_batch."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 if the hardware supports it, else fp32."""
    accumulate: int = Field(default=1, ge=1)
    """Gradient-accumulation steps per process, to save memory."""
    workers: int = Field(default=1, ge=0)
    """Decoding processes per training process."""
    max_bad_fraction: float = Field(default=0.01, ge=0, le=1)
    """Share of clips that may fail to decode before the run stops."""
    balanced: bool = False
    """Whether every class is sampled equally often, whatever its number of videos."""
    augment: AugmentConfig = AugmentConfig()
    batch_norm: Literal["live", "partial", "frozen"] = "live"
    """BatchNorms that update their statistics: all, the first (TSN) or none. Scale and shift are trained."""
    precise_batch_norm: int = Field(default=0, ge=0)
    """Number of training clips for recomputing BatchNorm's statistics before validation and publishing."""
    head_first: float = Field(default=0.0, ge=0)
    """How long only the head is trained: below 1 a share of all steps, from 1 on a number of steps."""
    early_stop: int = Field(default=0, ge=0)
    """Number of validations in a row without a better score after which the run ends; 0 = never."""
    activation_checkpointing: bool = False
    """Whether the student's activations are recomputed in the backward pass instead of stored: a step takes
    about a third longer and a fraction of the memory."""
    compile: bool = False
    """Whether torch.compile compiles the student's trunk; the first steps then take minutes."""
    log_every: int | None = Field(default=None, ge=1)
    """Steps between rows of the log; none = 20, or fewer, for ten rows in a short run."""
    save_every: int = Field(default=500, ge=1)
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations; none = only after the last step, or after each epoch if a plateau schedule
    or early_stop needs scores."""
    gpu: GpuConfig = GpuConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @property
    def needs_scores(self) -> bool:
        """Whether the schedule or early stopping reads validation scores."""
        return self.early_stop > 0 or self.schedule.kind == "plateau"


class TrainerConfig(Training):
    """The configuration of `Trainer`, with the length and the batch size of the run."""

    steps: int = Field(ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int | None = Field(default=None, ge=1)
    """Clips in one step over all processes and accumulation steps; not needed if the data yields batches."""
    keep_checkpoints: int = Field(default=2, ge=2)
    """Number of checkpoints to keep; at least 2, since the last may be damaged by whatever ended the run."""

    @model_validator(mode="after")
    def _check_batch_size(self) -> Self:
        if self.lr_base_batch is not None and self.batch_size is None:
            raise ValueError(
                f"lr_base_batch={self.lr_base_batch} scales lr by the batch size: set batch_size"
            )
        return self

    @property
    def lr_factor(self) -> float:
        """The factor that multiplies all learning rates."""
        if self.lr_base_batch is None or self.batch_size is None:
            return 1.0
        return self.batch_size / self.lr_base_batch

    @property
    def head_steps(self) -> int:
        """Number of initial steps in which only the head is trained."""
        return round(self.head_first * self.steps if self.head_first < 1 else self.head_first)
