"""V4D: I3D-S over the units of a whole video, with residual 4D blocks that connect the units.

Paper: Zhang et al., "V4D: 4D Convolutional Neural Networks for Video-level Representation Learning",
ICLR 2020, section 3 and table 1. Its inference is in `transfer3d.models.combinations`.

Differs from the paper: see `transfer3d.nn.residual4d`. The released code has blocks in res3 alone, without BN
and ReLU: `stages=("res3",)`, `norm_act=False`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.resnet3d import (
    RESNET18,
    RESNET34,
    RESNET50,
    RESNET101,
    TEST_RESNET,
    BlockSite,
    ResNet3d,
    ResNetSpec,
    block_sites,
)
from transfer3d.models.trunks.slow_path import SlowPathPlan
from transfer3d.models.trunks.trunk import Trunk
from transfer3d.nn.residual import Residual
from transfer3d.nn.residual4d import Residual4d
from transfer3d.nn.units import AcrossUnits

CLIP_4x8 = ClipSpec(frames=4, stride=8, size=224, crop=256, units=4)
"""Section 4.2: 4 sections, in each a snippet of 32 frames, of which 4 are seen."""

CLIP_8x4 = ClipSpec(frames=8, stride=4, size=224, crop=256, units=4)
"""Section 4.3: units of 8 frames."""

STAGES = ("res3", "res4")
KERNEL = (3, 3, 1, 1)
BASIC_CONVS = 2
Extent = Annotated[int, Field(ge=1, le=63)]
"""Axes of a 4D kernel."""


class V4DPlan(SlowPathPlan):
    """The slow path with a 4D block at every position in `stages`."""

    def __init__(self, stages: Sequence[str], kernel: Sequence[int], norm_act: bool) -> None:
        self.stages = stages
        ku, kt, kh, kw = kernel
        self.kernel = (ku, kt, kh, kw)
        self.norm_act = norm_act

    def after_block(self, site: BlockSite) -> AcrossUnits | None:
        """A 4D block or nothing."""
        if not _named(site) & set(self.stages):
            return None
        return Residual4d(site.out_channels, self.kernel, norm_act=self.norm_act)


def _named(site: BlockSite) -> set[str]:
    """Returns the names by which `stages` can place a 4D block after this block.

    A stage's name means the paper's positions: after the last basic block, after every other bottleneck, and
    after the only bottleneck of a stage that has just one.
    """
    stage = f"res{site.stage}"
    only = site.last and site.index == 0
    standard = site.index % 2 == 1 or only if site.kind == "bottleneck" else site.last
    return {f"{stage}.{site.index}", *([stage] if standard else [])}


def earlier_options(trunk: Trunk, options: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the options of old checkpoints, where a stage's name did not cover a single bottleneck.

    At that time `v4d_tiny` had the default kernel, too.

    Args:
        trunk: built with these options.
        options: options as stored in the checkpoint.
    """
    places = []
    for name, stage in trunk.named_children():
        blocks = [child for child in stage.children() if isinstance(child, Residual)]
        if len(blocks) > 1 or any(len(block.units) == BASIC_CONVS for block in blocks):
            pairs = pairwise(stage.named_children())
            places += [f"{name}.{block}" for (block, _), (_, layer) in pairs if isinstance(layer, Residual4d)]
    return {"kernel": KERNEL, **options, "stages": places}


@register_family(
    "v4d",
    paper="V4D, ICLR 2020 (arXiv:2002.07442)",
    clips={ResNetSpec: CLIP_8x4},
    earlier_options=earlier_options,
)
def v4d(
    spec: ResNetSpec,
    *,
    in_chans: int = 3,
    stages: Sequence[str] = STAGES,
    kernel: Sequence[Extent] = KERNEL,
    norm_act: bool = True,
) -> ResNet3d:
    """Builds a V4D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        stages: positions of the 4D blocks: `res3` for the paper's positions in a stage (after the last basic
            block, after every other bottleneck or the only one), `res3.1` for after its second block; empty
            for TSN.
        kernel: (U, T, H, W) of the 4D convolutions, each odd.
        norm_act: False for convolutions without BatchNorm and ReLU, as in the released code.
    """
    known = {name for site in block_sites(spec) for name in _named(site)}
    if unknown := sorted(set(stages) - known):
        raise ValueError(
            f"stages={list(stages)}: no place for a 4D block {unknown}: known are {sorted(known)}"
        )
    if len(kernel) != 4:
        raise ValueError(f"kernel={list(kernel)}: four numbers, for U, T, H and W")
    return ResNet3d(spec, V4DPlan(stages, kernel, norm_act), in_chans=in_chans)


register_student("v4d_resnet18", "v4d", RESNET18, CLIP_4x8, source="resnet18")
register_student("v4d_resnet34", "v4d", RESNET34, CLIP_4x8, source="resnet34")
register_student("v4d_resnet50", "v4d", RESNET50, CLIP_8x4, source="resnet50")
register_student("v4d_resnet101", "v4d", RESNET101, CLIP_8x4, source="resnet101")
register_student(
    "v4d_tiny",
    "v4d",
    TEST_RESNET,
    replace(TINY_CLIP, frames=4, units=4),
    source="test_resnet",
    options={"kernel": (3, 1, 1, 1)},  # 3x3x1x1 has more parameters than a tiny student may
)
register_student("tsn_i3ds_resnet18", "v4d", RESNET18, CLIP_4x8, source="resnet18", options={"stages": ()})
