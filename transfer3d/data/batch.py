"""Batches of test views, and the identifier of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from transfer3d.data.views import Views


@dataclass(frozen=True)
class ViewBatch:
    """The test views of some videos.

    Attributes:
        views: views of all videos, one video after the other.
        labels: int64, for each view; -1 if unlabelled.
        keys: keys of the videos, for each view.
    """

    views: Views
    labels: Tensor
    keys: list[str]

    @property
    def clips(self) -> Tensor:
        """All views, RGB [B, C, T, H, W] or [B, U, C, T, H, W] uint8."""
        return self.views.clips()


class ClipId(NamedTuple):
    """A clip to load.

    Attributes:
        epoch: in which it is loaded.
        video: index of the video.
        repeat: how often the epoch has loaded this video before: repeats differ in their random choices.
    """

    epoch: int
    video: int
    repeat: int = 0

    def entropy(self, seed: int) -> tuple[int, ...]:
        """Returns what the clip's random choices are seeded with."""
        return (seed, self.epoch, self.video, *([self.repeat] if self.repeat else []))
