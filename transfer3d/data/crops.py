"""Crops and flips that torchvision lacks, with one draw for all frames of a clip; and for optical flow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from transfer3d.data.views import ThreeCrops
from transfer3d.errors import UsageError, did_you_mean
from transfer3d.layout import FLOW_CHANNELS

SCALES = (1.0, 0.875, 0.75, 0.66)
LEVELS = 255
SIDE = re.compile("(?<![bcfw])(?:left|right)(?!over)")
"""A side, also within a word: "lefthook", "rightwards"; not in "bright", "cleft", "fright", "leftover"."""
PLACES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))


class CornerCrop(v2.Transform):
    """Crops at a corner or the centre, with one of several sizes (TSN), resized to `size`.

    Height and width are the frame's short side times two of the scales, at most one step apart.

    Args:
        size: H and W of the result.
        scales: scales of the short side, largest first; empty for crops of `size` itself (T3D, section 4.4).
    """

    def __init__(self, size: int, scales: Sequence[float] = SCALES) -> None:
        super().__init__()
        self._size, self._scales = size, scales

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the crop."""
        height, width = functional.get_size(flat_inputs[0])
        cut = [self._size, self._size]
        if self._scales:
            numbered = list(enumerate(self._scales))
            pairs = [(a, b) for i, a in numbered for j, b in numbered if abs(i - j) <= 1]
            drawn = pairs[int(torch.randint(len(pairs), ()))]
            cut = [max(round(min(height, width) * scale), 1) for scale in drawn]
        down, right = PLACES[int(torch.randint(len(PLACES), ()))]
        return {
            "top": round(down * (height - cut[0])),
            "left": round(right * (width - cut[1])),
            "height": cut[0],
            "width": cut[1],
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crops and resizes."""
        size = [self._size, self._size]
        return self._call_kernel(functional.resized_crop, inpt, **params, size=size, antialias=True)


def mirror(video: torch.Tensor) -> torch.Tensor:
    """Returns a mirrored clip [..., C, H, W] uint8; in optical flow, x also changes its sign."""
    mirrored = functional.horizontal_flip(video)
    return negated_x(mirrored) if video.shape[-3] == FLOW_CHANNELS else mirrored


def negated_x(flow: torch.Tensor) -> torch.Tensor:
    """Returns optical flow [..., 2, H, W] uint8 with x negated (mirrored about 127.5)."""
    x, y = flow.split(1, dim=-3)
    return torch.cat((LEVELS - x, y), dim=-3)


class MirrorFlow(nn.Module):
    """Mirrors half of the clips of optical flow, as `v2.RandomHorizontalFlip` does RGB's."""

    def forward(self, video: torch.Tensor, labels: tuple[int, ...]) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Returns the clip, unchanged or mirrored, and its labels."""
        return (mirror(video) if torch.rand(()) < 0.5 else video), labels


class FlowTenCrop(nn.Module):
    """`v2.TenCrop` for optical flow.

    Args:
        size: side of the crops.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._crops = v2.TenCrop(size)

    def forward(self, video: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns corners and centre, and the same mirrored."""
        crops = self._crops(video)
        half = len(crops) // 2
        return (*crops[:half], *map(negated_x, crops[half:]))


class FlipPairs(nn.Module):
    """Mirrors half of the clips, and changes the labels to the mirrored classes.

    Args:
        pairs: classes that are mirror images of each other ("Pushing left to right", "... right to left").
        classes: names by label.

    Raises:
        UsageError: a name is not a class.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], classes: Sequence[str]) -> None:
        super().__init__()
        self._mirrored: dict[int, int] = {}
        for name in (name for pair in pairs for name in pair):
            if name not in classes:
                near = did_you_mean(name, classes)
                raise UsageError(f"flip_pairs: the data has no class '{name}'{near}.")
        for one, other in pairs:
            a, b = classes.index(one), classes.index(other)
            self._mirrored |= {a: b, b: a}

    def forward(self, video: torch.Tensor, labels: tuple[int, ...]) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Returns the clip and its labels, either both unchanged or both mirrored."""
        if torch.rand(()) < 0.5:
            return video, labels
        return mirror(video), tuple(self._mirrored.get(label, label) for label in labels)


def mirrored_classes(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs of classes whose names only differ by exchanging "left" and "right"."""
    lower = {name.lower(): name for name in classes}
    swap = {"left": "right", "right": "left"}
    pairs = {}
    for name in lower:
        other = SIDE.sub(lambda side: swap[side[0]], name)
        if other != name and other in lower:
            pairs[min(name, other)] = max(name, other)
    return [(lower[one], lower[other]) for one, other in sorted(pairs.items())]


class ThreeCrop(nn.Module):
    """Three squares at the start, middle and end of the longer side, centred on the shorter side.

    Args:
        size: side of the square crops; at most the input's short side.
        rule: rounding of the middle, and position of the last crop. "transfer3d": down, exactly at the end.
            "slowfast" (also pytorchvideo's): up, exactly at the end. "mmaction2": down, at twice the middle,
            which is a pixel before the end if the difference of the sizes is odd.
    """

    def __init__(self, size: int, rule: ThreeCrops = "transfer3d") -> None:
        super().__init__()
        self._size, self._rule = size, rule

    def forward(self, video: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the three clips."""
        height, width = video.shape[-2:]
        room, across = max(height, width) - self._size, self._middle(min(height, width) - self._size)
        middle = self._middle(room)
        places = (0, middle, 2 * middle if self._rule == "mmaction2" else room)
        return tuple(
            functional.crop(
                video, *((place, across) if height > width else (across, place)), self._size, self._size
            )
            for place in places
        )

    def _middle(self, room: int) -> int:
        return (room + 1) // 2 if self._rule == "slowfast" else room // 2
