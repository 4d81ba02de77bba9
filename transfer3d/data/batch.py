"""What the pipeline yields, and what it is planned in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Clips on their way to a model, which normalises them for itself.

    Attributes:
        clips_u8: RGB [B, C, T, H, W] uint8, or [B, U, C, T, H, W] for the video-level families.
        labels_B: int64, -1 where there is none.
        keys: of the videos; in testing, once for each view.
        sources: the original videos.
        targets_BK: share of each class, where clips are mixed; None = the labels.
    """

    clips_u8: Tensor
    labels_B: Tensor
    keys: list[str]
    sources: list[str]
    targets_BK: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Returns the batch with its tensors on a device."""
        clips_u8, labels_B, targets_BK = (
            None if tensor is None else tensor.to(device, non_blocking=True)
            for tensor in (self.clips_u8, self.labels_B, self.targets_BK)
        )
        return replace(self, clips_u8=clips_u8, labels_B=labels_B, targets_BK=targets_BK)


class Draw(NamedTuple):
    """One clip to make: video number `video`, in epoch `epoch`."""

    epoch: int
    video: int
