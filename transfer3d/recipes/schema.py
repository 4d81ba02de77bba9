"""The schema of recipes. Every key has a type; an unknown key is an error."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from transfer3d.engine.config import Training
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.objectives.config import CorrespondenceConfig, Loss
from transfer3d.weights.schema import Frames, Pixels, Units

MAX_STAGES, LONGEST_STAGE_NAME = 100, 60
LONGEST_TEXT = 4000
"""Maximum length of a text value, such as a path or a source."""


def _check_stage_name(name: str) -> str:
    if len(name) > LONGEST_STAGE_NAME or not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"a stage's name has letters, digits, _ and -, at most {LONGEST_STAGE_NAME}")
    return name


StageName = Annotated[str, AfterValidator(_check_stage_name)]
"""The name of a folder."""


class ClipConfig(BaseModel):
    """Changes to the student's own clip; keys that are not given keep the student's registered values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: Frames | None = None
    stride: Frames | None = None
    size: Pixels | None = None
    crop: Pixels | tuple[Pixels, Pixels] | None = None
    units: Units | None = None

    def apply(self, spec: ClipSpec) -> ClipSpec:
        """Returns `spec` with these changes; a new size without a crop sets crop = size.

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
    """One training run. In a file, `extends` names the recipe on which it is based."""

    model_config = ConfigDict(str_max_length=LONGEST_TEXT)

    task: Literal["correspond", "finetune"]
    source: str = ""
    """Paper, section and table of the numbers."""
    student: str | None = None
    """Registered name, or a checkpoint file."""
    student_args: dict[str, Any] = Field(default={})
    """Keyword arguments of the student's builder."""
    start: str | None = None
    """Checkpoint file of a related student, whose weights are copied by name, except the head's."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the classifier; none = the student's own."""
    teacher: str | None = None
    """A timm model, a student's checkpoint, or a transformers image model, `hf:org/name`; for correspond."""
    weights: str = "timm"
    """The teacher's weights: "timm" (pretrained, from the hub), "none" (random) or a file."""
    data: str | None = None
    data_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training videos to use, equal for all classes; selected by the seed."""
    val_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training videos, equal for all classes, to validate on if the data has no val split."""
    batch_size: int | Literal["auto"] = "auto"
    """Clips in one optimiser step over all processes and accumulation steps; auto: halved until it fits."""
    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; with `epochs`, whichever ends first."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Experiment tracker, in addition to metrics.jsonl."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the loss of a clip is weighted inversely to the number of videos of its class."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: Loss | None = None
    """For finetune: "softmax", one class per video; "bce", binary per class; none = bce if any video has
    several labels."""
    segments: int = Field(default=1, ge=1)
    """Clips per video, from equal sections of it, whose scores are averaged in training (TSN); for finetune
    and clip-level students."""
    clip: ClipConfig = ClipConfig()
    correspondence: CorrespondenceConfig = CorrespondenceConfig()
    stages: dict[StageName, dict[str, Any]] = Field(default={}, max_length=MAX_STAGES)
    """Consecutive runs by name, each a table of its differences from the recipe. From the second on, each
    starts from the weights of the one before."""

    def require(self, key: str) -> str:
        """Returns the value of a key that a command needs.

        Raises:
            UsageError: the recipe does not set it.
        """
        value = getattr(self, key)
        if value is None:
            raise UsageError(f"the recipe has no {key}. Set it in the command, or with --set {key}=...")
        return value

    def expect_task(self, task: str) -> None:
        """Raises UsageError if the recipe is for another command."""
        if self.task != task:
            raise UsageError(f"this recipe is for `transfer3d {self.task}`, not for `{task}`.")
