"""What the pipeline yields, and what it is planned in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from transfer3d.data.views import Views

TENSORS = ("clips_u8", "labels_B", "targets_BK", "seconds_u8")


@dataclass(frozen=True)
class Batch:
    """Clips on their way to a model, which normalises them for itself.

    Attributes:
        clips_u8: RGB [B, C, T, H, W] uint8, or [B, U, C, T, H, W] for the video-level families.
        labels_B: int64, -1 where there is none.
        keys: of the videos.
        sources: the original videos.
        targets_BK: share of each class, where clips are mixed; None = the labels.
        seconds_u8: another view of the same frames, as `clips_u8`; None where none was asked for.
        second_names: equal names are equal pixels; None where seconds are drawn at random.
    """

    clips_u8: Tensor
    labels_B: Tensor
    keys: list[str]
    sources: list[str]
    targets_BK: Tensor | None = None
    seconds_u8: Tensor | None = None
    second_names: list[str] | None = None

    def to(self, device: torch.device) -> Batch:
        """Returns the batch with its tensors on a device."""
        tensors = ((name, getattr(self, name)) for name in TENSORS)
        return replace(self, **{n: t.to(device, non_blocking=True) for n, t in tensors if t is not None})


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
