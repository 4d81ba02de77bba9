"""V4D as released by its authors: a TSN wrapper around an I3D-S ResNet with 4D convolutions in its stages.

A 4D convolution is numbered within its stage like a block; it has no BatchNorm, ReLU or bias. Its
weights are `O I ku kt khw` (one 3D convolution over units, frames and all pixels), or, tap first,
`ku O I kt kh kw` (one 3D convolution for each tap over units).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.kind import Kind, Released, Shapes, channels, classes
from transfer3d.inflation.importers.resnet_names import BASICS, BOTTLENECKS, block_modules, read_spec
from transfer3d.layout import ClipSpec
from transfer3d.models.trunks.resnet3d import BlockSite

CLIP = ClipSpec(frames=8, stride=4, size=224, crop=256, units=4)
SHALLOW_CLIP = ClipSpec(frames=4, stride=8, size=224, crop=256, units=4)
"""Clip of ResNet-18 and 34, trained on Mini-Kinetics (V4D, section 4.2)."""
BASE = "base_model"
STEM, CLASSIFIER = f"{BASE}.conv1", "new_fc"
PLACE = re.compile(rf"{BASE}\.layer(?P<stage>\d)\.(?P<place>\d+)\.(?P<part>.*)")
TAP_FIRST_NDIM = 6
CONV4D_NDIMS = (5, TAP_FIRST_NDIM)


def read(shapes: Shapes, options: Mapping[str, str]) -> Released:
    """Reads names and shapes of a file."""
    blocks, convolutions = _places(shapes)
    numbered = [f"layer{stage}.{index}." for stage, places in blocks.items() for index in range(len(places))]
    deep = any(".conv3." in name for name in shapes)
    known = BOTTLENECKS if deep else BASICS
    spec = read_spec(numbered, r"layer(?P<stage>\d)\.(?P<block>\d+)\.", known, counts_from=1)
    units = {f"units.{unit}": (f"conv{unit + 1}", f"bn{unit + 1}") for unit in range(3 if deep else 2)}

    def block(site: BlockSite) -> str:
        return f"{BASE}.layer{site.stage - 1}.{blocks[site.stage - 1][site.index]}"

    modules = {
        "trunk.stem.0.conv": STEM,
        "trunk.stem.0.norm": f"{BASE}.bn1",
        "head": CLASSIFIER,
        **block_modules(
            spec, block=block, units=lambda site: units, projection=("downsample.0", "downsample.1")
        ),
    }
    stages, fits, kernels = [], {}, set()
    for stage, place in convolutions:
        before = sum(other < place for other in blocks[stage]) - 1
        ours, theirs = f"trunk.res{stage + 1}.after{before}.conv", f"{BASE}.layer{stage}.{place}.tsa"
        stages.append(f"res{stage + 1}.{before}")
        modules[ours], fits[ours] = theirs, _units_before_taps
        kernels.add(_kernel(theirs, shapes))
    if len(kernels) > 1:
        raise WeightsError(
            f"its 4D convolutions have several sizes, {sorted(kernels)}: a student has only one."
        )
    return Released(
        family="v4d",
        spec=spec,
        model_args={
            "stages": stages,
            "norm_act": False,
            **({"kernel": list(*kernels)} if kernels else {}),
            **channels(shapes, STEM),
        },
        num_classes=classes(shapes, CLASSIFIER),
        clip=CLIP if deep else SHALLOW_CLIP,
        modules=modules,
        fits=fits,
    )


def _places(shapes: Shapes) -> tuple[dict[int, list[int]], list[tuple[int, int]]]:
    """Returns the indices of the blocks by stage, and (stage, index) of every 4D convolution, in order."""
    blocks: dict[int, set[int]] = {stage: set() for stage in range(1, 5)}
    convolutions: set[tuple[int, int]] = set()
    for name in shapes:
        if (match := PLACE.match(name)) and int(match["stage"]) in blocks:
            stage, place = int(match["stage"]), int(match["place"])
            if match["part"].startswith("tsa."):
                convolutions.add((stage, place))
            else:
                blocks[stage].add(place)
    return {stage: sorted(places) for stage, places in blocks.items()}, sorted(convolutions)


def _kernel(name: str, shapes: Shapes) -> tuple[int, ...]:
    """Returns the kernel size (U, T, H, W) of a 4D convolution, for either layout of its weights."""
    shape = shapes.get(f"{name}.weight", ())
    if len(shape) not in CONV4D_NDIMS:
        raise WeightsError(f"'{name}.weight' of shape {tuple(shape)} is not the kernel of a 4D convolution.")
    if len(shape) == TAP_FIRST_NDIM:
        return (shape[0], *shape[3:])
    return (*shape[2:], 1)


def _units_before_taps(source: Tensor, ndim: int) -> Tensor:
    """Permutes a 4D kernel to the student's axis order, `O I ku kt kh kw`."""
    return source.movedim(0, 2) if source.ndim == TAP_FIRST_NDIM else source.unsqueeze(-1)


V4D_RELEASE = Kind(
    name="v4d-release",
    what="V4D ResNets of the authors' release",
    signature=f"{STEM}.weight",
    options={},
    read=read,
)
