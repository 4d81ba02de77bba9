"""Folds the units of a video into the batch for 3D layers, and unfolds them into an axis for 4D layers.

This is the permutation of V4D's equation (3). With channels_last_3d tensors it copies no memory.
"""

from __future__ import annotations

from torch import Tensor, nn

from transfer3d.nn.leaf import leaf


class AcrossUnits(nn.Module):
    """A layer that mixes the units of a video; its `forward(x, units)` also takes their number."""


def unfold_units(x: Tensor, units: int) -> Tensor:
    """Views `B*U C T H W` as `B C U T H W`."""
    return x.unflatten(0, (-1, units)).transpose(1, 2)


def fold_units(x: Tensor) -> Tensor:
    """Folds the units of `B C U T H W` back into the batch: `B*U C T H W`."""
    return merge_batch(x.transpose(1, 2))


@leaf
def merge_batch(x: Tensor) -> Tensor:
    """Flattens the two leading axes of `B U C ...`; if that copies, channels-last stays channels-last."""
    if x.stride(2) == 1:
        return x.movedim(2, -1).flatten(0, 1).movedim(-1, 1)
    return x.flatten(0, 1)
