"""P3D ResNet: pseudo-3D units in place of the 3x3 convolutions of a ResNet.

Paper: Qiu, Yao, Mei, "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks", ICCV 2017,
section 3 and table 1.

Differs from the paper's text, as the authors' release does: T is halved by max pools after the stem, res2,
res3 and res4, and res5 is 2D. On basic blocks, which the paper does not use, the first 3x3 is the
pseudo-3D unit. If more than one frame reaches res5, each frame passes through it alone and they are averaged.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from transfer3d.layout import ClipSpec, Triple
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.resnet3d import (
    RESNET18,
    RESNET34,
    RESNET50,
    RESNET101,
    RESNET152,
    TEST_RESNET,
    ConvSite,
    ResNet3d,
    ResNetSpec,
    TimePlan,
)
from transfer3d.nn.pooling import TemporalMaxPool
from transfer3d.nn.pseudo3d import Pseudo3d, Wiring

StrideIn = Literal["reduce", "spatial"]
LAST_STAGE = 5

CLIP = ClipSpec(frames=16, stride=1, size=160, crop=(182, 242))
"""Section 3.3: 16x160x160 cropped from 16x182x242."""


class P3DPlan(TimePlan):
    """Cycles through the kinds of `blocks` over res2..res4, with a temporal pool after each stage."""

    def __init__(self, blocks: str, stride_in: StrideIn, c_scale: float, wiring: Wiring) -> None:
        self.blocks = blocks
        self.stride_in = stride_in
        self.c_scale = c_scale
        self.wiring: Wiring = wiring

    def stem_pool(self) -> nn.Module:
        """A 2x3x3 max pool of stride 2: time first, so that only half the frames are pooled in space."""
        return nn.Sequential(TemporalMaxPool(), super().stem_pool())

    def conv(self, site: ConvSite, stride: Triple) -> nn.Module:
        """The first 3x3 of a block in res2..res4 is a pseudo-3D unit."""
        if site.block.stage == LAST_STAGE or not _is_first_spatial(site):
            return super().conv(site, stride)
        return Pseudo3d(
            site.in_channels,
            site.out_channels,
            kind=self.blocks[site.block.number % len(self.blocks)],
            stride=stride,
            groups=site.groups,
            wiring=self.wiring,
            c_scale=self.c_scale,
        )

    def after_stage(self, stage: int) -> nn.Module | None:
        """A temporal pool after res2, res3 and res4."""
        return None if stage == LAST_STAGE else TemporalMaxPool()


def _is_first_spatial(site: ConvSite) -> bool:
    return site.index == (0 if site.block.kind == "basic" else 1)


@register_family("p3d", paper="P3D, ICCV 2017 (arXiv:1711.10305)", clips={ResNetSpec: CLIP})
def p3d(
    spec: ResNetSpec,
    *,
    in_chans: int = 3,
    blocks: str = "ABC",
    stride_in: StrideIn = "reduce",
    c_scale: float = 1.0,
    wiring: Wiring = "release",
) -> ResNet3d:
    """Builds a P3D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        blocks: kinds of consecutive blocks, cycled without restarting at a stage; "A", "B" and "C" are the
            pure nets of table 1.
        stride_in: a bottleneck strides in its first 1x1x1 (the release) or in S (timm's resnets).
        c_scale: weight of both terms of C; 1 is equation (5), the release has 0.5.
        wiring: "port" applies T's ReLU before the sum.
    """
    if not blocks or set(blocks) - set("ABC"):
        raise ValueError(f"blocks={blocks!r}: a sequence of A, B and C")
    return ResNet3d(spec, P3DPlan(blocks, stride_in, c_scale, wiring), in_chans=in_chans)


register_student("p3d_resnet18", "p3d", RESNET18, CLIP, source="resnet18")
register_student("p3d_resnet34", "p3d", RESNET34, CLIP, source="resnet34")
register_student("p3d_resnet50", "p3d", RESNET50, CLIP, source="resnet50", aliases=("p3d63",))
register_student("p3d_resnet101", "p3d", RESNET101, CLIP, source="resnet101", aliases=("p3d131",))
register_student("p3d_resnet152", "p3d", RESNET152, CLIP, source="resnet152", aliases=("p3d199",))
register_student("p3d_tiny", "p3d", TEST_RESNET, TINY_CLIP, source="test_resnet")
