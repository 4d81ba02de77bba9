"""Frames -> what a student sees: torchvision's transforms, with one draw for all frames of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from transfer3d.data.decode import Frames
from transfer3d.layout import ClipSpec


class AugmentConfig(BaseModel):
    """How training clips are varied.

    Attributes:
        scale: frames are resized to `clip.crop` times a factor from this range, then cropped at random.
        flip: mirrors half of the clips; off where left and right are different classes.
        colour: 0 (none) to 1: brightness, contrast, saturation by up to 40 %, hue by up to a tenth turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: tuple[float, float] = (1.0, 1.25)
    flip: bool = True
    colour: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale={self.scale}: need 0 < smallest <= largest")
        return self


def training_transform(clip: ClipSpec, config: AugmentConfig) -> v2.Transform:
    """Returns the transform of a training clip [N, C, H, W], uint8 to uint8 of `clip.size`."""
    low, high = config.scale
    if isinstance(clip.crop, int):
        # RandomResize draws from [min, max).
        shortest, longest = max(round(clip.crop * low), clip.size), max(round(clip.crop * high), clip.size)
        steps: list[v2.Transform] = [v2.RandomResize(shortest, longest + 1, antialias=True)]
    else:
        steps = [v2.Resize(list(clip.crop), antialias=True)]
        if config.scale != (1.0, 1.0):
            smallest = max(low, clip.size / min(clip.crop))
            steps += [v2.ScaleJitter(clip.crop, (smallest, max(smallest, high)), antialias=True)]
    steps += [v2.RandomCrop(clip.size, pad_if_needed=True, padding_mode="edge")]
    if config.flip:
        steps += [v2.RandomHorizontalFlip()]
    if config.colour:
        strength = 0.4 * config.colour
        steps += [v2.ColorJitter(strength, strength, strength, 0.1 * config.colour)]
    return v2.Compose(steps)


def evaluation_transform(clip: ClipSpec) -> v2.Transform:
    """Returns resize to `clip.crop`, then the centre's `clip.size` square."""
    crop = clip.crop if isinstance(clip.crop, int) else list(clip.crop)
    return v2.Compose([v2.Resize(crop, antialias=True), v2.CenterCrop(clip.size)])


def decode_side(clip: ClipSpec, largest: float = 1.0) -> int:
    """Returns the short side to decode at, where frames are resized to up to `largest` times `clip.crop`."""
    side = clip.crop if isinstance(clip.crop, int) else max(clip.crop)
    return max(round(side * largest), clip.size)


def transform_frames(transform: v2.Transform, frames: Frames, *, seed: int) -> Tensor:
    """Applies a transform to frames [N, H, W, 3], one draw for all; returns [N, 3, size, size] uint8."""
    video = tv_tensors.Video(torch.from_numpy(frames).permute(0, 3, 1, 2))
    with _seeded(seed):
        return transform(video).as_subclass(Tensor)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the generator that torchvision draws from, the CPU's alone, and puts it back as it was."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
