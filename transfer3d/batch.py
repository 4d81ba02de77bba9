"""The batch of a training step: clips, labels, and the teacher's view of the clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipBatch:
    """A batch of uint8 clips; models normalise them themselves.

    Attributes:
        clips: RGB `B C T H W` uint8, or `B U C T H W` for the video-level families.
        labels: class indices, B, int64; -1 for an unlabelled clip.
        keys: the videos' names.
        sources: the original video of each clip: two clips of one source are never a negative pair.
        targets: `B K` float, soft or multi-hot targets, after MixUp or CutMix and for multi-label data;
            None = `labels`.
        teacher_clips: the teacher's view of the same frames, in the format of `clips`; None = the same
            pixels.
        teacher_view_keys: equal keys mean equal pixels in `teacher_clips`; None = the views are random.
    """

    clips: Tensor
    labels: Tensor
    keys: list[str]
    sources: list[str]
    targets: Tensor | None = None
    teacher_clips: Tensor | None = None
    teacher_view_keys: list[str] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice) -> ClipBatch:
        """Returns a slice of the batch."""
        return replace(self, **{name: value[part] for name, value in vars(self).items() if value is not None})

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> ClipBatch:
        """Returns the batch with its tensors on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(
            self, **{n: value.to(device, non_blocking=non_blocking) for n, value in tensors.items()}
        )


def multi_hot(label_sets: Sequence[tuple[int, ...]], classes: int) -> Tensor:
    """Returns `N K` float32 with a 1 for each class of a video.

    Args:
        label_sets: all classes of each video.
        classes: K.
    """
    targets_NK = torch.zeros(len(label_sets), classes)
    for row, labels in enumerate(label_sets):
        targets_NK[row, list(labels)] = 1
    return targets_NK
