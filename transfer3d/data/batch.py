"""What the pipeline yields, and what it is planned in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from transfer3d.data.views import Views


@dataclass(frozen=True)
class Batch:
    """Clips on their way to a model, which normalises them for itself.

    Attributes:
        clips_u8: RGB [B, C, T, H, W] uint8, or [B, U, C, T, H, W] for the video-level families.
        labels_B: int64, -1 where there is none.
        keys: of the videos.
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


@dataclass(frozen=True)
class ViewBatch:
    """Some videos as a test looks at them.

    Attributes:
        views: of all of them, one video after the other.
        labels_B: int64, for each view; -1 where there is none.
        keys: of the videos, for each view.
        sources: the original videos, for each view.
    """

    views: Views
    labels_B: Tensor
    keys: list[str]
    sources: list[str]

    @property
    def clips_u8(self) -> Tensor:
        """All views, RGB [B, C, T, H, W] or [B, U, C, T, H, W] uint8."""
        return self.views.clips()


class Draw(NamedTuple):
    """One clip to make: video number `video`, in epoch `epoch`."""

    epoch: int
    video: int
