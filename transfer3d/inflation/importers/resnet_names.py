"""What the names in a ResNet's state dict say about its depth, whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.kind import Shapes
from transfer3d.models.trunks.resnet3d import (
    RESNET18,
    RESNET34,
    RESNET50,
    RESNET101,
    RESNET152,
    BlockSite,
    ResNetSpec,
    block_sites,
)

BOTTLENECKS = {50: RESNET50, 101: RESNET101, 152: RESNET152}
BASICS = {18: RESNET18, 34: RESNET34}


def read_spec(
    names: Iterable[str], block: str, known: dict[int, ResNetSpec], *, counts_from: int
) -> ResNetSpec:
    """Returns the shape whose stages have as many blocks as the names tell.

    Args:
        names: of the file's tensors.
        block: pattern of a block's name, with the groups `stage` and `block`.
        known: shapes by number of layers.
        counts_from: the file's number of its first stage.

    Raises:
        WeightsError: no ResNet has as many.
    """
    last = [-1, -1, -1, -1]
    for name in names:
        if found := re.match(block, name):
            stage = int(found["stage"]) - counts_from
            if 0 <= stage < len(last):
                last[stage] = max(last[stage], int(found["block"]))
    depths = tuple(index + 1 for index in last)
    for spec in known.values():
        if spec.depths == depths:
            return spec
    table = "; ".join(f"{layers} layers have {_text(spec.depths)}" for layers, spec in known.items())
    raise WeightsError(f"its stages have {_text(depths)} blocks, which no depth of this kind has: {table}.")


Units = dict[str, tuple[str, str]]
"""A unit of a block of ours to the file's names of its convolution and its BatchNorm."""


def block_modules(
    spec: ResNetSpec,
    *,
    block: Callable[[BlockSite], str],
    units: Callable[[BlockSite], Units],
    projection: tuple[str, str],
) -> dict[str, str]:
    """Pairs every convolution and BatchNorm of res2..res5 with the file's name of it.

    Args:
        spec: the shape.
        block: the file's name of a block.
        units: see `Units`; names are within the block.
        projection: the file's names of the shortcut's convolution and BatchNorm, within the block.
    """
    pairs = {}
    for site in block_sites(spec):
        found = units(site)
        if site.stride > 1 or site.in_channels != site.out_channels:
            found = {**found, "shortcut.project": projection}
        for ours, (conv, norm) in found.items():
            prefix = f"trunk.res{site.stage}.{site.index}.{ours}"
            pairs[f"{prefix}.conv"] = f"{block(site)}.{conv}"
            pairs[f"{prefix}.norm"] = f"{block(site)}.{norm}"
    return pairs


def classes(shapes: Shapes, classifier: str) -> int:
    """Returns K; 1 where the classifier is missing, which the account then names."""
    return shapes.get(f"{classifier}.weight", (1,))[0]


def channels(shapes: Shapes, stem: str) -> dict[str, int]:
    """Returns `in_chans` for `create_model`, where a stem sees something else than RGB."""
    kernel = shapes[f"{stem}.weight"]
    return {} if len(kernel) != 5 or kernel[1] == 3 else {"in_chans": kernel[1]}


def _text(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths))
