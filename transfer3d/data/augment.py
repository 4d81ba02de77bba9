"""Transforms from frames to a student's input: torchvision's, with the same random draw for a whole clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transfer3d.data.augment_config import AugmentConfig
from transfer3d.data.centre_crop import CentreCrop
from transfer3d.data.pixels import Frames
from transfer3d.data.views import Crops, ThreeCrops
from transfer3d.errors import UsageError
from transfer3d.layout import FLOW_CHANNELS, ClipSpec

if TYPE_CHECKING:  # imported where it is needed: a command may refuse its input before
    from torchvision.transforms import v2


def training_transform(clip: ClipSpec, config: AugmentConfig, classes: Sequence[str] = ()) -> v2.Transform:
    """Returns the transform of a training clip [N, C, H, W], uint8, to `clip.size`, and of its labels.

    Args:
        clip: the student's input.
        config: augmentation settings; MixUp and CutMix act on batches (see `mix`) and are ignored here.
        classes: names by label, for `flip_pairs`.

    Raises:
        UsageError: a name in `flip_pairs` is not a class, or colour augmentation of optical flow.
    """
    from torchvision.transforms import v2

    from transfer3d.data.crops import CornerCrop, FlipPairs, MirrorFlow

    flow = clip.channels == FLOW_CHANNELS
    if flow and (config.colour or config.rand_augment):
        name = "colour" if config.colour else "rand_augment"
        raise UsageError(f"{name} changes colours, which optical flow has not. Set augment.{name} to 0.")
    low, high = config.scale
    if isinstance(clip.crop, int):
        # RandomResize draws from [min, max).
        shortest, longest = max(round(clip.crop * low), clip.size), max(round(clip.crop * high), clip.size)
        steps: list[nn.Module] = [v2.RandomResize(shortest, longest + 1, antialias=True)]
    else:
        steps = [v2.Resize(list(clip.crop), antialias=True)]
        if config.scale != (1.0, 1.0):
            smallest = max(low, clip.size / min(clip.crop))
            steps += [v2.ScaleJitter(clip.crop, (smallest, max(smallest, high)), antialias=True)]
    if config.crop == "corners":
        steps += [CornerCrop(clip.size)]
    elif config.crop == "five":
        steps += [CornerCrop(clip.size, scales=())]
    else:
        steps += [v2.RandomCrop(clip.size, pad_if_needed=True, padding_mode="edge")]
    if config.flip_pairs:
        steps += [FlipPairs(config.flip_pairs, classes)]
    elif config.flip:
        steps += [MirrorFlow() if flow else v2.RandomHorizontalFlip()]
    if config.rand_augment:
        steps += [v2.RandAugment(config.rand_augment, config.magnitude)]
    if config.colour:
        strength = 0.4 * config.colour
        steps += [v2.ColorJitter(strength, strength, strength, 0.1 * config.colour)]
    return v2.Compose(steps)


def evaluation_transform(clip: ClipSpec, crops: Crops = 1, three: ThreeCrops = "transfer3d") -> nn.Module:
    """Returns the transform of a test clip, to one or several squares of `clip.size`.

    Args:
        clip: the student's input.
        crops: 1 = the centre of `clip.crop`; 10 = its corners and centre, and these mirrored (TSN); 3 = three
            squares that cover a frame with short side `clip.size` (V4D and F4D, 256 x 256 resized to it).
        three: how three crops are cut; see `ThreeCrop`.
    """
    if crops == 1:
        return CentreCrop(clip.crop, clip.size)
    from torchvision.transforms import v2

    from transfer3d.data.crops import FlowTenCrop, ThreeCrop

    if crops == 3:
        return v2.Compose([v2.Resize(clip.size, antialias=True), ThreeCrop(clip.size, three)])
    crop = clip.crop if isinstance(clip.crop, int) else list(clip.crop)
    ten = FlowTenCrop if clip.channels == FLOW_CHANNELS else v2.TenCrop
    return v2.Compose([v2.Resize(crop, antialias=True), ten(clip.size)])


def crop_frames(transform: nn.Module, frames: Frames) -> list[Tensor]:
    """Applies a test transform to frames [N, H, W, C]; returns [N, C, size, size] uint8 for each crop."""
    cut = transform(torch.from_numpy(frames).permute(0, 3, 1, 2))
    return list(cut) if isinstance(cut, list | tuple) else [cut]


def decode_side(clip: ClipSpec, largest: float = 1.0) -> int:
    """Returns the short side to decode at, if frames are resized to up to `largest` times `clip.crop`."""
    side = clip.crop if isinstance(clip.crop, int) else max(clip.crop)
    return max(round(side * largest), clip.size)


def transform_frames(transform: nn.Module, frames: Frames, *, seed: int) -> Tensor:
    """Applies a transform with one random draw to frames [N, H, W, C]; returns [N, C, size, size] uint8."""
    return transform_labelled(transform, frames, (), seed=seed)[0]


def transform_labelled(
    transform: nn.Module, frames: Frames, labels: tuple[int, ...], *, seed: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Applies a training transform to frames and labels; flipping a clip may change its class."""
    from torchvision import tv_tensors

    video = tv_tensors.Video(torch.from_numpy(frames).permute(0, 3, 1, 2))
    with seeded(seed):
        clip, labels = transform(video, labels)
    return clip.as_subclass(Tensor), labels


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Temporarily seeds torchvision's generator (the CPU's only)."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
