"""Settings of the objectives in a recipe. Does not import torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Pairs = Literal["in-batch", "one-to-one", "hard"]
Loss = Literal["softmax", "bce"]
"""Cross-entropy over all classes, or binary cross-entropy per class, averaged over classes."""
MAX_BANKED = 1 << 20
"""Maximum number of features in a bank."""


class CorrespondenceConfig(BaseModel):
    """The terms of the loss, how frames and clips are paired, and the matching head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: Pairs = "in-batch"
    """in-batch: every frame set with every clip; one-to-one: one negative for each positive (the paper);
    hard: as in-batch, plus the hardest negatives once more with the same total weight."""
    hidden: tuple[PositiveInt, PositiveInt] = (512, 128)
    """Widths of fc1 and fc2."""
    standardise: bool = False
    """Whether a BatchNorm without affine parameters standardises both features before fc1 (the paper: no)."""
    student_fc: PositiveInt | None = None
    """Width of a linear layer between the student's pooled feature and the heads (the paper's: 1024). It is
    trained with the heads and, like them, not part of the saved student; none by default."""
    match: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Weight of the matching task (the paper's)."""
    infonce: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the InfoNCE loss between all frame sets and clips of a batch."""
    feature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the regression onto the teacher's feature."""
    kd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of distilling the teacher's class scores; the student gets the teacher's classes."""
    dense: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the regression onto the teacher's patch or feature maps, on the coarser of both grids."""
    dense_layers: PositiveInt = 1
    """Pairs of layers that dense compares: the last ones, and further ones evenly spaced below them, such as
    the blocks of two vision transformers."""
    dense_weights: Literal["none", "class"] = "none"
    """class: positions are weighted by the attention of the teacher's class token (vision transformers)."""
    temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Temperature of infonce."""
    kd_temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Temperature of kd."""
    teacher_view: Literal["same", "independent", "centre", "native"] = "same"
    """The teacher's view of the clip's frames: same = the student's own pixels; independent = crop, flip and
    colour drawn independently, so that borders and tint do not reveal the pair; centre = the centre crop;
    native = the centre crop at the teacher's training size, from the video's full resolution."""
    teacher_frames: PositiveInt | None = None
    """Number of frames of the clip, or of each unit, that the teacher sees, evenly spaced; none = all."""
    bank: int = Field(default=0, ge=0, le=MAX_BANKED)
    """Number of earlier teacher features used as additional negatives of match and infonce; 0 = none."""
    cache: str | None = None
    """Folder that caches the teacher's features for this and later runs; requires teacher_view "centre" or
    "native"."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not any((self.match, self.infonce, self.feature, self.kd, self.dense)):
            raise ValueError("all weights are 0: set match, infonce, feature, kd or dense above 0")
        if self.cache is not None and self.dense:
            raise ValueError("a cache has no feature maps: leave out cache, or set dense=0")
        if self.cache is not None and self.teacher_view not in ("centre", "native"):
            raise ValueError('a cache needs teacher_view = "centre" or "native": other views are random')
        return self
