"""What tests are computed on, and what batches are planned in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from transfer3d.data.views import Views


@dataclass(frozen=True)
class ViewBatch:
    """Some videos as a test looks at them.

    Attributes:
        views: of all of them, one video after the other.
        labels: int64, for each view; -1 where there is none.
        keys: of the videos, for each view.
        sources: the original videos, for each view.
    """

    views: Views
    labels: Tensor
    keys: list[str]
    sources: list[str]

    @property
    def clips(self) -> Tensor:
        """All views, RGB [B, C, T, H, W] or [B, U, C, T, H, W] uint8."""
        return self.views.clips()


class ClipId(NamedTuple):
    """One clip to make: video number `video`, in epoch `epoch`."""

    epoch: int
    video: int
