"""Runs a network over views in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transfer3d.data.views import ViewPlan, Views
from transfer3d.engine.out_of_memory import is_out_of_memory
from transfer3d.errors import NonFiniteError, SetupError
from transfer3d.layout import ClipSpec

MAX_CLIPS = 64
PIXELS = {"cpu": 8 * 8 * 224 * 224}
"""Frames x H x W of the first forward pass, by device type."""
GPU_PIXELS = 64 * 8 * 224 * 224

CENTRE_CLIP = ViewPlan()

Compute = Callable[[Tensor, int], Tensor]
"""Maps uint8 clips `V ...` and the maximum number of clips per forward pass to vectors `V D`."""


def first_size(clip: ClipSpec, device: torch.device) -> int:
    """Returns the clips in the first forward pass: enough to be fast, rarely too many for memory."""
    budget = PIXELS.get(device.type, GPU_PIXELS)
    return min(max(budget // (clip.frames * clip.size**2), 1), MAX_CLIPS)


class MicroBatches:
    """Runs a network on a few views at a time; after running out of memory, on half as many.

    Args:
        compute: see `Compute`.
        clip: shape of the views.
        device: device of the clips.
        plan: the views of a video.
        size: clips in the first call; None = by `first_size`.
        divisible: whether `compute` itself can split a single view.

    Attributes:
        size: the current number of clips in one call; each unit of a view counts as a clip.
    """

    def __init__(
        self,
        compute: Compute,
        clip: ClipSpec,
        device: torch.device,
        *,
        plan: ViewPlan = CENTRE_CLIP,
        size: int | None = None,
        divisible: bool = False,
    ) -> None:
        self.size = size or first_size(clip, device)
        self._compute, self._device, self._divisible = compute, device, divisible
        self._clips_of_a_view = plan.clips_of_a_view(clip)

    def __call__(self, views: Views, names: list[str]) -> Tensor:
        """Returns the vectors of all views, float32 `V D` on the CPU; equal views are computed once.

        Args:
            views: views of one or several videos.
            names: names of the video of each view, for messages.

        Raises:
            SetupError: a single view does not fit into memory.
            NonFiniteError: a vector has NaN or infinite values.
        """
        indices, place = views.indices.unique(dim=0, return_inverse=True)
        if repeated := len(indices) < len(views):  # e.g. the views of a video that is shorter than a clip
            views = Views(views.frames_u8, indices, views.scale_V[: len(indices)])
        parts: list[Tensor] = []
        first = 0
        while first < len(views):
            last = first + max(self.size // self._clips_of_a_view, 1)
            part = self._try(views.clips(first, last))
            if part is None:
                self._halve()
            else:
                parts.append(part)
                first = last
        vectors_VD = torch.cat(parts)[place] if repeated else torch.cat(parts)
        for name, finite in zip(names, vectors_VD.isfinite().all(1).tolist(), strict=True):
            if not finite:
                raise NonFiniteError(
                    f"{name}: the student's output has NaN or infinite values. Try fp32 (--precision fp32)."
                )
        return vectors_VD

    def _try(self, clips_u8: Tensor) -> Tensor | None:
        """Returns vectors, or None if memory ran out, after the failed call's tensors are freed."""
        try:
            return self._compute(clips_u8.to(self._device), self.size).float().cpu()
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            raise

    def _halve(self) -> None:
        if self.size == 1 or not (self._divisible or self.size // self._clips_of_a_view > 1):
            raise SetupError(
                "one view does not fit into memory. Use smaller clips, or a device with more memory."
            )
        self.size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
