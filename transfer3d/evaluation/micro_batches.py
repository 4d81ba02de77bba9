"""Views through a network in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transfer3d.data.views import Views
from transfer3d.engine.out_of_memory import is_out_of_memory
from transfer3d.errors import SetupError
from transfer3d.layout import ClipSpec

MOST_CLIPS = 64
PIXELS = {"cpu": 8 * 8 * 224 * 224}
"""What one forward pass takes at first, by kind of device: frames x H x W."""
GPU_PIXELS = 64 * 8 * 224 * 224

Forward = Callable[[Tensor, int], Tensor]


def first_size(clip: ClipSpec, device: torch.device) -> int:
    """Returns how many clips are tried together at first: as many as are fast, and seldom too many."""
    budget = PIXELS.get(device.type, GPU_PIXELS)
    return min(max(budget // (clip.frames * clip.size**2), 1), MOST_CLIPS)


class MicroBatches:
    """Calls a network on some views at a time; out of memory, on half as many from then on.

    Args:
        forward: uint8 clips `V ...` and the most clips that it may compute together, to scores `V K`.
        size: clips (units, where a view has several) in one call, to begin with.
        clips_of_a_view: see `ViewPlan`.
        divisible: `forward` itself can compute less than one view at a time.

    Attributes:
        size: clips in one call, by now.
    """

    def __init__(self, forward: Forward, size: int, *, clips_of_a_view: int, divisible: bool) -> None:
        self.forward, self.size = forward, size
        self._clips_of_a_view, self._divisible = clips_of_a_view, divisible

    def scores(self, views: Views) -> Tensor:
        """Returns the scores of all views [V, K], on the CPU.

        Raises:
            SetupError: not even one view fits.
        """
        done: list[Tensor] = []
        first = 0
        while first < len(views):
            last = first + max(self.size // self._clips_of_a_view, 1)
            part = self._try(views.clips(first, last))
            if part is None:
                self._halve()
            else:
                done.append(part)
                first = last
        return torch.cat(done)

    def _try(self, clips_u8: Tensor) -> Tensor | None:
        """Returns scores, or None where memory does not suffice; by then what was computed is let go."""
        try:
            return self.forward(clips_u8, self.size).float().cpu()
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            raise

    def _halve(self) -> None:
        if self.size == 1 or not (self._divisible or self.size // self._clips_of_a_view > 1):
            raise SetupError(
                "one view does not fit into memory. Test with smaller clips, or on a larger device."
            )
        self.size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
