"""MixUp and CutMix of whole batches, by torchvision; all frames of a clip are mixed in the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import seeded
from transfer3d.data.augment_config import AugmentConfig

if TYPE_CHECKING:
    from torchvision.transforms import v2


def mix_batch(batch: ClipBatch, config: AugmentConfig, classes: int, *, seed: int) -> ClipBatch:
    """Applies MixUp, CutMix or neither, with the probabilities of the configuration.

    Each clip is mixed with its neighbour in the batch. Mixed batches have `targets`.

    Args:
        batch: with labels, or with targets.
        config: shares and alphas.
        classes: K.
        seed: for all random values.
    """
    from torchvision.transforms import v2

    with seeded(seed):
        chosen = float(torch.rand(()))
        if chosen >= config.mixup + config.cutmix or len(batch.labels) < 2:
            return batch
        if chosen < config.mixup:
            mix: v2.Transform = v2.MixUp(alpha=config.mixup_alpha, num_classes=classes)
        else:
            mix = v2.CutMix(alpha=config.cutmix_alpha, num_classes=classes)
        clips_u8, targets_BK = _mixed(mix, batch)
    return replace(batch, clips=clips_u8, targets=targets_BK)


def _mixed(mix: v2.Transform, batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """Mixes clips [B, C, T, H, W] or [B, U, C, T, H, W]; torchvision accepts 5 dimensions, crops H, W."""
    from torchvision import tv_tensors

    clips = batch.clips.flatten(1, -4).float()
    labels = batch.labels if batch.targets is None else batch.targets
    mixed, targets_BK = mix(tv_tensors.Video(clips), labels)
    return mixed.as_subclass(Tensor).round().to(torch.uint8).view_as(batch.clips), targets_BK
