"""Analysis of a student's temporal kernels, by stage.

A kernel w has taps w_k along an axis of time: along T for frames before (k < 0) or after (k > 0) the output
frame, along U for units. All numbers here follow from the products of its taps, summed over output and input
channels and over the other axes of the kernel, G_kl = sum w_k w_l, and E = sum_k G_kk:

- the share of tap k is G_kk / E; that of the centre, G_00 / E, is 1 in a kernel inflated by `center`, and 1/d
  in one inflated by `mean` or drawn at random, for d taps;
- off centre, sqrt(1 - G_00 / E), is |w - c| / |w| for the nearest kernel c with only a centre tap: how far
  training has moved a kernel that was inflated by `center`;
- the symmetric part, s_k = (w_k + w_-k) / 2, is invariant to reversing time; the antisymmetric one, a_k =
  (w_k - w_-k) / 2, is a difference between later and earlier frames, as for motion. Their shares of E add up
  to 1: sum |s_k|^2 / E = (1 + sum_k G_k,-k / E) / 2. In a kernel of even size the counterpart of the last tap
  is 0. A random kernel has (1 - 1/d) / 2 in its antisymmetric part;
- the response to f cycles per tap is |sum_k w_k exp(-2 pi i f k)|^2 / E, which is
  sum_kl G_kl cos(2 pi f (k - l)) / E; its mean over all frequencies is 1, and it is 1 everywhere for a kernel
  that covers one frame.

Kernels are analysed with the BatchNorm after a convolution, and the channel scale of a 4D block, folded in.
Layers that are multiplied by zero are called silent: the temporal branches of a newly inflated student.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from transfer3d.errors import WeightsError
from transfer3d.models.fuse import fuse
from transfer3d.models.student import VideoStudent
from transfer3d.nn.attention import Attention
from transfer3d.nn.conv4d import Conv4d
from transfer3d.nn.factorised4d import FactorisedBlock
from transfer3d.nn.residual4d import Residual4d

Axis = Literal["T", "U"]

FREQUENCIES = tuple(step / 64 for step in range(33))
"""Cycles per tap at which the response is given, 0..0.5."""

PROBE_FRAMES = 64
"""Frames of the clip for determining temporal strides; divisible by every student's stride."""

STAGE = re.compile(r"stem|\D+\d+|[^.]+")


@dataclass(frozen=True, kw_only=True)
class Taps:
    """The statistics of one kernel along one axis, or their means over several.

    Attributes:
        offsets: offsets of the taps from the centre.
        energy: share of each tap, 0..1; they sum to 1.
        symmetric: share of the symmetric part, 0..1.
        response: power at each of `FREQUENCIES`.
        random_centre: share of the centre tap in a random kernel, 1/d.
    """

    offsets: tuple[int, ...]
    energy: tuple[float, ...]
    symmetric: float
    response: tuple[float, ...]
    random_centre: float

    @property
    def centre(self) -> float:
        """Share of the centre tap, 0..1."""
        return self.energy[self.offsets.index(0)]

    @property
    def off_centre(self) -> float:
        """Relative distance from the nearest kernel with only a centre tap, 0..1."""
        return math.sqrt(max(1 - self.centre, 0))

    @property
    def antisymmetric(self) -> float:
        """Share of the antisymmetric part, 0..1."""
        return 1 - self.symmetric

    @property
    def random_symmetric(self) -> float:
        """Share of the symmetric part in a random kernel, (1 + 1/d) / 2."""
        return (1 + self.random_centre) / 2


@dataclass(frozen=True, kw_only=True)
class TemporalKernel:
    """One convolution along one axis of time.

    Attributes:
        layer: name of the module.
        stage: part of the trunk that it belongs to.
        axis: "T" for frames, "U" for units.
        kernel: size, (T, H, W) or (U, T, H, W).
        spacing: from tap to tap, in frames of the clip, or in units.
        taps: its statistics; None if it is silent.
    """

    layer: str
    stage: str
    axis: Axis
    kernel: tuple[int, ...]
    spacing: int
    taps: Taps | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form; numbers are None if the kernel is silent."""
        row = {"layer": self.layer, "stage": self.stage, "axis": self.axis, "kernel": list(self.kernel)}
        return {**row, "spacing": self.spacing, **taps_to_dict(self.taps)}


def taps_to_dict(taps: Taps | None) -> dict[str, Any]:
    """Returns the JSON form of a kernel's statistics."""
    numbers = ("centre", "off_centre", "symmetric", "antisymmetric", "random_centre", "random_symmetric")
    lists = ("offsets", "energy", "response")
    return {
        **{name: None if taps is None else getattr(taps, name) for name in numbers},
        **{name: None if taps is None else list(getattr(taps, name)) for name in lists},
    }


def measure_taps(weight: Tensor, axis: int) -> Taps | None:
    """Computes the statistics of a kernel along one of its axes; None if it is all zero.

    Args:
        weight: weight of a convolution, `C' C ...`.
        axis: the temporal axis.
    """
    taps_KX = weight.detach().double().movedim(axis, 0).flatten(1)
    gram_KK = taps_KX @ taps_KX.T
    energy = gram_KK.trace()
    if energy == 0:
        return None
    before = (len(gram_KK) - 1) // 2
    offsets = tuple(range(-before, len(gram_KK) - before))
    pairs = [(k, -k) for k in offsets if -k in offsets]
    mirrored = sum(float(gram_KK[k + before, other + before]) for k, other in pairs)
    distance_KK = torch.tensor(offsets)[:, None] - torch.tensor(offsets)
    waves_FKK = torch.cos(2 * math.pi * torch.tensor(FREQUENCIES).double()[:, None, None] * distance_KK)
    return Taps(
        offsets=offsets,
        energy=tuple((gram_KK.diagonal() / energy).tolist()),
        symmetric=(1 + mirrored / float(energy)) / 2,
        response=tuple(((gram_KK * waves_FKK).sum((1, 2)) / energy).tolist()),
        random_centre=1 / len(gram_KK),
    )


def mean_taps(several: Sequence[Taps]) -> Taps:
    """Returns the unweighted means over kernels; a tap that a kernel lacks counts as 0."""
    offsets = sorted({offset for taps in several for offset in taps.offsets})
    shares = [dict(zip(taps.offsets, taps.energy, strict=True)) for taps in several]
    return Taps(
        offsets=tuple(offsets),
        energy=tuple(_mean([share.get(offset, 0.0) for share in shares]) for offset in offsets),
        symmetric=_mean([taps.symmetric for taps in several]),
        response=tuple(_mean(powers) for powers in zip(*(taps.response for taps in several), strict=True)),
        random_centre=_mean([taps.random_centre for taps in several]),
    )


@dataclass(frozen=True, kw_only=True)
class StageTaps:
    """The mean statistics of the kernels of one stage along one axis.

    Attributes:
        stage: see `TemporalKernel`.
        axis: see `TemporalKernel`.
        spacing: minimum and maximum over its kernels.
        layers: number of kernels.
        silent: number of silent kernels, which are excluded from the means.
        taps: means over the others; None if there are none.
    """

    stage: str
    axis: Axis
    spacing: tuple[int, int]
    layers: int
    silent: int
    taps: Taps | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form; numbers are None if all kernels are silent."""
        row = {"stage": self.stage, "axis": self.axis, "spacing": list(self.spacing)}
        return {**row, "layers": self.layers, "silent": self.silent, **taps_to_dict(self.taps)}


def by_stage(kernels: Sequence[TemporalKernel]) -> list[StageTaps]:
    """Returns one row per stage and axis, in the order of the kernels."""
    groups: dict[tuple[str, Axis], list[TemporalKernel]] = {}
    for kernel in kernels:
        groups.setdefault((kernel.stage, kernel.axis), []).append(kernel)
    rows = []
    for (stage, axis), group in groups.items():
        active = [kernel.taps for kernel in group if kernel.taps is not None]
        spacings = [kernel.spacing for kernel in group]
        rows.append(
            StageTaps(
                stage=stage,
                axis=axis,
                spacing=(min(spacings), max(spacings)),
                layers=len(group),
                silent=len(group) - len(active),
                taps=mean_taps(active) if active else None,
            )
        )
    return rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def temporal_kernels(student: VideoStudent) -> list[TemporalKernel]:
    """Returns every convolution over several frames or units, in the order of execution.

    The attention of F4D is excluded: its kernels weight features instead of computing them.

    Args:
        student: any; it is not modified.

    Raises:
        WeightsError: a weight is not finite.
    """
    weights = _acting_weights(student)
    kernels = []
    for name, frames in _frames_at(student, weights).items():
        weight = weights[name]
        if not weight.isfinite().all():
            raise WeightsError(f"{name}: its weights are not finite. Use an earlier checkpoint.")
        axes: tuple[tuple[Axis, int], ...] = (("U", -4), ("T", -3)) if weight.ndim == 6 else (("T", -3),)
        for axis, place in axes:
            if weight.shape[place] > 1:
                kernels.append(
                    TemporalKernel(
                        layer=name,
                        stage=stage_of(name),
                        axis=axis,
                        kernel=tuple(weight.shape[2:]),
                        spacing=1 if axis == "U" else PROBE_FRAMES // frames * student.clip.stride,
                        taps=measure_taps(weight, place),
                    )
                )
    return kernels


def stage_of(layer: str) -> str:
    """Returns the part of the trunk that a layer belongs to: `res3`, `blocks.0`, `inception4`."""
    match = STAGE.match(layer.removeprefix("trunk."))
    assert match is not None
    return match[0]


@torch.no_grad()
def _acting_weights(student: VideoStudent) -> dict[str, Tensor]:
    """Returns the weights of all 3D and 4D convolutions by name, with BatchNorm and scale folded in."""
    fused = fuse(student)
    passed = tuple(f"{name}." for name, module in fused.named_modules() if isinstance(module, Attention))
    for module in fused.modules():
        if isinstance(module, Residual4d) and module.scale is not None:
            module.conv.weight.mul_(module.scale.weight.view(-1, 1, 1, 1, 1, 1))
        elif isinstance(module, FactorisedBlock):
            share = module.scale.weight.square().mean().sqrt()
            module.factorised.spatial.weight.mul_(share)
            module.factorised.temporal.weight.mul_(share)
    return {
        name: module.weight
        for name, module in fused.named_modules()
        if isinstance(module, nn.Conv3d | Conv4d) and not name.startswith(passed)
    }


@torch.no_grad()
def _frames_at(student: VideoStudent, layers: Iterable[str]) -> dict[str, int]:
    """Returns T at each layer for a clip of `PROBE_FRAMES` frames, in the order of execution."""
    shapes = copy.deepcopy(student).to("meta").eval()
    frames: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            frames.setdefault(name, inputs[0].shape[-3])

        return hook

    for name in layers:
        shapes.get_submodule(name).register_forward_pre_hook(note(name))
    shapes(torch.empty(replace(student.clip, frames=PROBE_FRAMES).shape(1), device="meta"))
    return frames
