"""4D convolution against a loop over units and taps, and against one Conv3d with as many multiplications."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison, relative_difference
from transfer3d.nn.conv4d import Quadruple, conv4d
from transfer3d.nn.units import fold_units, unfold_units

BATCH = 2
SIZES = {(128, 4, 4, 28): 8.0, (256, 4, 4, 14): 1.35, (512, 4, 8, 28): 1.6}
"""(C, U, T, H = W) of V4D's blocks, and the speed expected of a 3x3x1x1 kernel relative to the loop."""

LOOP, ONE = "loop over U and taps", "one Conv3d, same size"
FLAT, FULL = (3, 3, 1, 1), (3, 3, 3, 3)
OF_ONE_CONV3D = 1 / 1.15

Function = Callable[[Tensor, Tensor], Tensor]


def conv4d_cases() -> Iterator[Case]:
    """Yields the comparisons, each forward, and forward with both gradients."""
    flat = [
        (size, FLAT, *against)
        for size, at_least in SIZES.items()
        for against in ((LOOP, at_least), (ONE, OF_ONE_CONV3D))
    ]
    full = [(size, FULL, LOOP, 1.0) for size in list(SIZES)[:2]]
    for size, kernel, baseline, at_least in (*flat, *full):
        for phase in ("forward", "gradients"):
            yield _case(size, kernel, phase, baseline, at_least)


def _case(
    size: tuple[int, int, int, int], kernel: Quadruple, phase: str, baseline: str, at_least: float
) -> Case:
    channels, units, frames, height = size

    def build(device: torch.device) -> Comparison:
        random = torch.Generator(device).manual_seed(0)
        video = torch.randn(BATCH, channels, units, frames, height, height, device=device, generator=random)
        weight = torch.randn(channels, channels, *kernel, device=device, generator=random) * 0.01
        loop: Function = load_baseline("conv4d_loop").conv4d_loop
        clips = fold_units(video).contiguous()

        def folded(function: Function) -> Function:
            """Folds the units into the batch before and after, as in a network."""
            return lambda clips, weight: fold_units(function(unfold_units(clips, units), weight))

        def difference() -> float:
            return relative_difference(folded(conv4d)(clips, weight), folded(loop)(clips, weight))

        ours = _runner(folded(conv4d), clips, weight, phase)
        if baseline == LOOP:
            theirs = _runner(folded(loop), clips, weight, phase)
        else:
            theirs = _runner(_plain, video.flatten(4), weight.flatten(4), phase)
        return Comparison(ours=ours, baseline=theirs, difference=difference)

    name = f"Conv4d {'x'.join(map(str, kernel))}, {channels} channels, {units}x{frames}x{height}x{height}"
    return Case(name=name, phase=phase, ours="Conv4d", baseline=baseline, at_least=at_least, build=build)


def _plain(video: Tensor, weight: Tensor) -> Tensor:
    return F.conv3d(video, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2, 0))


def _runner(function: Function, x: Tensor, weight: Tensor, phase: str) -> Callable[[], None]:
    if phase == "forward":

        def forward() -> None:
            with torch.no_grad():
                function(x, weight)

        return forward
    inputs = (x.detach().requires_grad_(), weight.detach().requires_grad_())
    upstream = torch.ones_like(function(*inputs))

    def both() -> None:
        torch.autograd.grad(function(*inputs), inputs, upstream)

    return both
