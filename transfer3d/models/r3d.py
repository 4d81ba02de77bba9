"""R3D: a ResNet whose every 3x3 is 3x3x3.

Papers: Hara, Kataoka, Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
CVPR 2018; Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018, whose net (torchvision's
r3d_18) has no pool after the stem.
"""

from __future__ import annotations

from torch import nn

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.resnet3d import (
    RESNET18,
    RESNET34,
    RESNET50,
    TEST_RESNET,
    BlockSite,
    ConvSite,
    ResNet3d,
    ResNetSpec,
    TimePlan,
)
from transfer3d.nn.pooling import SpatialMaxPool, TemporalMaxPool

CLIP = ClipSpec(frames=16, stride=1, size=112, crop=128)
"""Hara et al., section 4.2: 16 frames of 112x112."""


class R3DPlan(TimePlan):
    """Three frames where the 2D net sees 3x3 or 7x7 pixels; T is halved with H and W, but for the stem."""

    def __init__(self, stem_pool: bool) -> None:
        self.with_stem_pool = stem_pool

    def stem_depth(self, index: int) -> int:
        """Always 3."""
        return 3

    def stem_pool(self) -> nn.Module:
        """A 3x3x3 max pool of stride 2, or nothing."""
        pools = (SpatialMaxPool(3, 2, 1), TemporalMaxPool(3, 2)) if self.with_stem_pool else ()
        return nn.Sequential(*pools)

    def stride(self, site: BlockSite) -> int:
        """As in space."""
        return site.stride

    def depth(self, site: ConvSite) -> int:
        """As in space."""
        return site.kernel


@register_family("r3d", paper="R3D (arXiv:1711.09577, arXiv:1711.11248)", clips={ResNetSpec: CLIP})
def r3d(spec: ResNetSpec, *, in_chans: int = 3, stem_pool: bool = True) -> ResNet3d:
    """Builds an R3D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        stem_pool: False leaves out the pool after the stem, as torchvision's r3d_18 does; such a net is not
            an inflated 2D one.
    """
    return ResNet3d(spec, R3DPlan(stem_pool), in_chans=in_chans)


register_student("r3d_resnet18", "r3d", RESNET18, CLIP, source="resnet18")
register_student("r3d_resnet34", "r3d", RESNET34, CLIP, source="resnet34")
register_student("r3d_resnet50", "r3d", RESNET50, CLIP, source="resnet50")
register_student("r3d_tiny", "r3d", TEST_RESNET, TINY_CLIP, source="test_resnet")
