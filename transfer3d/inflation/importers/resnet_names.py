"""Reads a ResNet's depth from the tensor names of a state dict, whichever library wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from transfer3d.errors import WeightsError
from transfer3d.models.trunks.densenet3d import DenseNetSpec
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

Spec = TypeVar("Spec", ResNetSpec, DenseNetSpec)


def read_spec(
    names: Iterable[str], block: str, known: dict[int, ResNetSpec], *, counts_from: int
) -> ResNetSpec:
    """Returns the architecture whose stages have as many blocks as the names show.

    Args:
        names: names of the file's tensors.
        block: pattern of a block's name, with the groups `stage` and `block`.
        known: possible architectures by number of layers.
        counts_from: the number of the first stage in the file.

    Raises:
        WeightsError: none of them has these numbers of blocks.
    """
    last = [-1, -1, -1, -1]
    for name in names:
        if match := re.match(block, name):
            stage = int(match["stage"]) - counts_from
            if 0 <= stage < len(last):
                last[stage] = max(last[stage], int(match["block"]))
    return spec_with(tuple(index + 1 for index in last), known, "stages have {} blocks")


def spec_with(depths: tuple[int, ...], known: Mapping[int, Spec], what: str) -> Spec:
    """Returns the architecture of these depths.

    Args:
        depths: blocks of each stage, or layers of each dense block.
        known: possible architectures by number of layers.
        what: what has these depths, with a place for them, for the error.

    Raises:
        WeightsError: none of them has these depths.
    """
    for spec in known.values():
        if spec.depths == depths:
            return spec
    table = "; ".join(f"{layers} layers have {_text(spec.depths)}" for layers, spec in known.items())
    raise WeightsError(f"its {what.format(_text(depths))}, which no depth has: {table}.")


Units = dict[str, tuple[str, str]]
"""Maps a convolution of the student's block to the file's names of the convolution and its BatchNorm."""


def block_modules(
    spec: ResNetSpec,
    *,
    block: Callable[[BlockSite], str],
    units: Callable[[BlockSite], Units],
    projection: tuple[str, str],
) -> dict[str, str]:
    """Maps every convolution and BatchNorm of the student's res2..res5 to its name in the file.

    Args:
        spec: the architecture.
        block: returns the file's name of a block.
        units: see `Units`; names are relative to the block.
        projection: the file's names of the shortcut's convolution and BatchNorm, relative to the block.
    """
    pairs = {}
    for site in block_sites(spec):
        parts = units(site)
        if site.stride > 1 or site.in_channels != site.out_channels:
            parts = {**parts, "shortcut.project": projection}
        for ours, (conv, norm) in parts.items():
            prefix = f"trunk.res{site.stage}.{site.index}.{ours}"
            pairs[f"{prefix}.conv"] = f"{block(site)}.{conv}"
            pairs[f"{prefix}.norm"] = f"{block(site)}.{norm}"
    return pairs


def _text(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths)) or "no"
