"""V4D's inference over all combinations of one unit from each section; shared features are computed once.

Paper: Zhang et al., "V4D: 4D Convolutional Neural Networks for Video-level Representation Learning",
ICLR 2020, algorithm 1.

Before the first 4D block, a unit's features depend on that unit alone; after it also on its neighbours, after
the second on their neighbours too. So each section's features are computed for all its *neighbourhoods*: all
choices of a unit from that section and from those within its receptive field over units. With 10 units in 4
sections there are 36 combinations of 4 units, but only 48 neighbourhoods after the first 4D block and 108
after the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from transfer3d.errors import UsageError
from transfer3d.layout import section_bounds
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.resnet3d import ResNet3d
from transfer3d.models.trunks.trunk import Step, run
from transfer3d.nn.residual4d import Residual4d
from transfer3d.nn.units import AcrossUnits

MAP_NDIM = 4  # C T H W


@dataclass(frozen=True)
class Neighbourhoods:
    """One section's feature maps for all choices of units from the sections that it depends on.

    Attributes:
        first: the first of these sections.
        maps: `B k1 ... kn C T H W`, k the numbers of units in the n sections from `first` on.
    """

    first: int
    maps: Tensor

    @property
    def last(self) -> int:
        """The last of these sections."""
        return self.first + self.maps.ndim - MAP_NDIM - 2

    def spread(self, first: int, last: int) -> Tensor:
        """Returns the maps with an axis for every section from `first` to `last`, for broadcasting."""
        leading, inner = self.maps.shape[:-MAP_NDIM], self.maps.shape[-MAP_NDIM:]
        before, after = (1,) * (self.first - first), (1,) * (last - self.last)
        return self.maps.reshape(leading[0], *before, *leading[1:], *after, *inner)


@torch.no_grad()
def combination_scores(
    student: VideoStudent, clips: Tensor, *, train_units: int | None = None, chunk: int = 64
) -> Tensor:
    """Averages a V4D's class probabilities over all combinations (algorithm 1).

    Args:
        student: a V4D in eval mode.
        clips: `B U C T H W`, the units of each video in order. `section_bounds` divides them into
            `train_units` consecutive sections: 10 units in 4 sections of 2, 3, 3 and 2 give 36 combinations.
        train_units: number of units in training; by default `student.clip.units`.
        chunk: maximum number of combinations, and of units of a video, computed together. Memory grows with
            it, not with the number of combinations; features shared by two chunks are computed twice.

    Returns:
        Probabilities `B K`.

    Raises:
        UsageError: fewer units than sections; not a V4D; chunk below 1.
    """
    count = student.clip.units if train_units is None else train_units
    given = clips.shape[1]
    if given < count:
        raise UsageError(f"{given} units for {count} sections: sample at least {count} units.")
    if chunk < 1:
        raise UsageError(f"chunk={chunk}: at least 1.")
    front, rest = _split(student)
    units = _run(clips, front, chunk)
    sections = [slice(*bounds) for bounds in pairwise(section_bounds(given, count))]
    sums = [_sum_of_scores(student, units, rest, part, chunk) for part in _parts(sections, chunk)]
    return torch.stack(sums).sum(0) / prod(map(_length, sections))


def _split(student: VideoStudent) -> tuple[list[Step], list[Step]]:
    """Returns the layers before the first 4D block, and the rest."""
    trunk = student.trunk
    if not isinstance(trunk, ResNet3d) or student.clip.units == 1:
        raise UsageError(f"{student.model_name} is not a V4D: algorithm 1 applies to V4D only.")
    steps = trunk.steps()
    blocks = [index for index, (_, module) in enumerate(steps) if isinstance(module, Residual4d)]
    first = blocks[0] if blocks else len(steps)
    if any(isinstance(module, AcrossUnits) and not isinstance(module, Residual4d) for _, module in steps):
        raise UsageError(f"{student.model_name} takes any number of units in one pass: call it.")
    return steps[:first], steps[first:]


def _length(section: slice) -> int:
    return section.stop - section.start


def _parts(sections: list[slice], chunk: int) -> Iterator[list[slice]]:
    """Splits the sections until each part has at most `chunk` combinations."""
    if prod(map(_length, sections)) <= chunk:
        yield sections
        return
    longest = max(range(len(sections)), key=lambda index: _length(sections[index]))
    start, stop = sections[longest].start, sections[longest].stop
    middle = (start + stop) // 2
    for half in (slice(start, middle), slice(middle, stop)):
        yield from _parts([*sections[:longest], half, *sections[longest + 1 :]], chunk)


def _sum_of_scores(
    student: VideoStudent, units: Tensor, rest: Sequence[Step], sections: list[slice], chunk: int
) -> Tensor:
    """Returns the sum of the scores of all combinations of these sections, `B K`."""
    states = [Neighbourhoods(index, units[:, section]) for index, section in enumerate(sections)]
    for name, module in rest:
        if isinstance(module, Residual4d):
            states = _apply_4d(module, states, chunk)
        else:
            states = [
                Neighbourhoods(state.first, _run(state.maps, [(name, module)], chunk)) for state in states
            ]
    last = len(sections) - 1
    pooled = [
        Neighbourhoods(state.first, state.maps.mean((-3, -2, -1), keepdim=True)).spread(0, last)
        for state in states
    ]
    video = torch.stack(torch.broadcast_tensors(*pooled)).mean(0)
    logits = student.forward_head(video.flatten(0, last + 1))
    return student.probabilities(logits).unflatten(0, (units.shape[0], -1)).sum(1)


def _apply_4d(block: Residual4d, states: list[Neighbourhoods], chunk: int) -> list[Neighbourhoods]:
    """Applies a 4D block: each unit's contributions are computed once, and summed for every combination."""
    reach = block.conv.weight.shape[2] // 2
    taps = [_per_map(state.maps, block.conv.unit_taps, chunk) for state in states]
    results = []
    for place, state in enumerate(states):
        near = range(max(0, place - reach), min(len(states), place + reach + 1))
        first, last = min(states[other].first for other in near), max(states[other].last for other in near)
        convolved = sum(
            Neighbourhoods(states[other].first, taps[other][reach + other - place]).spread(first, last)
            for other in near
        )
        assert isinstance(convolved, Tensor)
        (branch,) = _per_map(convolved, lambda maps: (block.activate(maps),), chunk)
        results.append(Neighbourhoods(first, state.spread(first, last) + branch))
    return results


def _run(maps: Tensor, steps: Sequence[Step], chunk: int) -> Tensor:
    """Runs 3D layers on `... C T H W`."""
    (result,) = _per_map(maps, lambda part: (run(part, steps),), chunk)
    return result


def _per_map(maps: Tensor, function: Callable[[Tensor], tuple[Tensor, ...]], chunk: int) -> list[Tensor]:
    """Applies a function of `N C T H W` to `... C T H W`, at most `chunk` maps at a time."""
    leading = maps.shape[:-MAP_NDIM]
    results = zip(*(function(part) for part in maps.flatten(0, -MAP_NDIM - 1).split(chunk)), strict=True)
    return [torch.cat(parts).unflatten(0, leading) for parts in results]
