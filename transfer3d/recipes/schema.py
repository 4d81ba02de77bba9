"""What a recipe may say. Every key has a type; an unknown one is an error."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from transfer3d.engine.config import Training
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.objectives.classification import Loss
from transfer3d.objectives.correspondence import CorrespondenceConfig
from transfer3d.weights.schema import Frames, Pixels, Units

MOST_STAGES, LONGEST_STAGE_NAME = 100, 60
LONGEST_TEXT = 4000
"""Of a value: a path, or where numbers come from."""


def _check_stage_name(name: str) -> str:
    if len(name) > LONGEST_STAGE_NAME or not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"letters, digits, _ and -, at most {LONGEST_STAGE_NAME}, are the name of a stage")
    return name


StageName = Annotated[str, AfterValidator(_check_stage_name)]
"""The name of a folder."""


class ClipConfig(BaseModel):
    """Changes to the student's own clip; what is not given stays as the student's registry entry says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: Frames | None = None
    stride: Frames | None = None
    size: Pixels | None = None
    crop: Pixels | tuple[Pixels, Pixels] | None = None
    units: Units | None = None

    def apply(self, spec: ClipSpec) -> ClipSpec:
        """Returns `spec` with these changes; a new size without a crop takes crop = size.

        Raises:
            UsageError: the crop is smaller than the size.
        """
        changes = {name: value for name, value in self.model_dump().items() if value is not None}
        if "size" in changes and "crop" not in changes:
            changes["crop"] = changes["size"]
        try:
            return ClipSpec.from_dict({**spec.to_dict(), **changes})
        except ValueError as error:
            raise UsageError(f"recipe: {error}. Change [clip] or --set clip.<key>=...") from None


class Recipe(Training):
    """One training run. `extends` names the recipe whose values these change."""

    model_config = ConfigDict(str_max_length=LONGEST_TEXT)

    task: Literal["correspond", "finetune"]
    source: str = ""
    """Paper, section and table that the numbers come from."""
    student: str | None = None
    """Name in the registry, or a checkpoint file."""
    student_args: dict[str, Any] = Field(default={})
    """Keyword arguments of the student's builder."""
    start: str | None = None
    """Checkpoint file of a related student: its weights are taken over by name, all but the head's."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout in front of the classifier; none = the student's own."""
    teacher: str | None = None
    """A timm model, a student's file, or an image model of transformers, `hf:org/name`; for correspond."""
    weights: str = "timm"
    """The teacher's: "timm" (pretrained, from the hub), "none" (random) or a file."""
    data: str | None = None
    data_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training videos that is used, of every class alike; the seed decides which."""
    val_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training videos, of every class alike, that validates where the data has no val split."""
    batch_size: int | Literal["auto"] = "auto"
    """Clips in one optimiser step, all processes and parts together; auto: what fits, by halving."""
    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; with `epochs`, whichever ends first."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Where metrics go besides metrics.jsonl."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the loss of a clip weighs the more, the fewer videos its class has."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: Loss | None = None
    """For finetune: "softmax", one class for each video; "bce", a yes or no for each class; none = bce where
    a video is of several classes."""
    segments: int = Field(default=1, ge=1)
    """Clips of each video, from even sections of it, whose scores are averaged in training (TSN); for
    finetune and students of single clips."""
    clip: ClipConfig = ClipConfig()
    correspondence: CorrespondenceConfig = CorrespondenceConfig()
    stages: dict[StageName, dict[str, Any]] = Field(default={}, max_length=MOST_STAGES)
    """Runs that follow one another, by name: each a table of keys in which it differs from the recipe. From
    the second on they start from the weights of the one before."""

    def require(self, key: str) -> str:
        """Returns the value of a key that a command needs.

        Raises:
            UsageError: the recipe leaves it open.
        """
        value = getattr(self, key)
        if value is None:
            raise UsageError(f"the recipe names no {key}. Name one in the command, or with --set {key}=...")
        return value

    def expect_task(self, task: str) -> None:
        """Raises UsageError where the recipe is for another command."""
        if self.task != task:
            raise UsageError(f"this recipe is for `transfer3d {self.task}`, not for `{task}`.")
