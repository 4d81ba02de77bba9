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
    """

    clips_u8: Tensor
    labels_B: Tensor
    keys: list[str]
    sources: list[str]

    def to(self, device: torch.device) -> Batch:
        """Returns the batch with its tensors on a device."""
        clips_u8 = self.clips_u8.to(device, non_blocking=True)
        return replace(self, clips_u8=clips_u8, labels_B=self.labels_B.to(device, non_blocking=True))


class Draw(NamedTuple):
    """One clip to make: video number `video`, in epoch `epoch`."""

    epoch: int
    video: int
