"""The configuration of training augmentation: the keys of a recipe's `[augment]`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sampling = Literal["random", "cover"]


class AugmentConfig(BaseModel):
    """The configuration of training augmentation.

    Attributes:
        scale: frames are resized to `clip.crop` times a factor from this range, then cropped at random.
        crop: "random" = anywhere; "corners" = in a corner or the centre, of several sizes (`CornerCrop`);
            "five" = in these five positions, only of `clip.size` (T3D, section 4.4).
        sampling: choice of the clip: "random" = any; "cover" = one of the non-overlapping clips that tile the
            video (P3D, section 3.3), for clip-level students.
        flip: mirrors half of the clips; switch it off if left and right are different classes. For optical
            flow the sign of x changes, too.
        flip_pairs: pairs of class names that a mirrored clip's label changes between, in both directions.
        colour: 0 (none) to 1: brightness, contrast, saturation by up to 40 %, hue by up to a tenth turn; not
            for optical flow.
        rand_augment: RandAugment's number of operations; 0 = none; not for optical flow.
        magnitude: RandAugment's magnitude, of 30.
        mixup: share of batches to which MixUp is applied.
        cutmix: share of batches to which CutMix is applied.
        mixup_alpha: parameter of MixUp's Beta distribution.
        cutmix_alpha: parameter of CutMix's Beta distribution.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: tuple[float, float] = (1.0, 1.25)
    crop: Literal["random", "corners", "five"] = "random"
    sampling: Sampling = "random"
    flip: bool = True
    flip_pairs: tuple[tuple[str, str], ...] = ()
    colour: float = Field(default=0.0, ge=0, le=1)
    rand_augment: int = Field(default=0, ge=0)
    magnitude: int = Field(default=9, ge=0, le=30)
    mixup: float = Field(default=0.0, ge=0, le=1)
    cutmix: float = Field(default=0.0, ge=0, le=1)
    mixup_alpha: float = Field(default=0.8, gt=0)
    cutmix_alpha: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale={self.scale}: need 0 < smallest <= largest")
        if self.mixup + self.cutmix > 1:
            raise ValueError(
                f"mixup={self.mixup} and cutmix={self.cutmix}: shares of batches, at most 1 together"
            )
        if self.flip_pairs and not self.flip:
            raise ValueError("flip_pairs without flip: nothing is mirrored")
        return self
