"""R3D: a ResNet with 3x3x3 in place of 3x3 kernels; and its variants MC3 and R(2+1)D.

Papers: Hara, Kataoka, Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
CVPR 2018; Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018, whose nets (torchvision's
r3d_18, mc3_18, r2plus1d_18) have no pool after the stem.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from transfer3d.layout import ClipSpec, Triple
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.resnet3d import (
    FIRST_STAGE,
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
from transfer3d.nn.convolution import ConvNorm
from transfer3d.nn.pooling import SpatialMaxPool, TemporalMaxPool

CLIP = ClipSpec(frames=16, stride=1, size=112, crop=128)
"""Hara et al., section 4.2: 16 frames of 112x112."""


class R3DPlan(TimePlan):
    """Temporal kernel size 3 for the 2D net's 3x3 and 7x7; after the stem T is halved with H and W."""

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


class MC3Plan(R3DPlan):
    """MC3 (Tran et al., section 3.4): 3D convolutions up to res2, then 2D ones that keep T."""

    def stride(self, site: BlockSite) -> int:
        """No temporal stride."""
        return 1

    def depth(self, site: ConvSite) -> int:
        """3 in res2 only."""
        return site.kernel if site.block.stage == FIRST_STAGE else 1


class R2Plus1DPlan(R3DPlan):
    """R(2+1)D (Tran et al., section 3.5): a spatial and a temporal convolution, with BatchNorm between.

    The width of the spatial one gives the pair as many parameters as the 3D convolution that it replaces. As
    in torchvision, it is computed from the block's channels for the second convolution too.
    """

    STEM_CHANNELS = 45
    """Output channels of the stem's spatial convolution (the authors' code)."""

    def stem_conv(self, index: int, in_channels: int, out_channels: int, size: int, stride: int) -> nn.Module:
        """Spatial to 45 channels, then temporal."""
        return _factorised(in_channels, self.STEM_CHANNELS, out_channels, size, (1, stride, stride), act=True)

    def conv(self, site: ConvSite, stride: Triple) -> nn.Module:
        """Factorises every 3x3x3; a 1x1x1 stays."""
        if site.kernel == 1:
            return super().conv(site, stride)
        into, out, taps = site.block.in_channels, site.block.inner_channels, site.kernel**2
        between = into * out * 3 * taps // (into * taps + 3 * out)
        return _factorised(site.in_channels, between, site.out_channels, site.kernel, stride, act=site.act)


def _factorised(
    in_channels: int, between: int, out_channels: int, size: int, stride: Triple, *, act: bool
) -> nn.Sequential:
    depth, height, width = stride
    return nn.Sequential(
        ConvNorm(in_channels, between, (1, size, size), stride=(1, height, width)),
        ConvNorm(between, out_channels, (3, 1, 1), stride=(depth, 1, 1), act=act),
    )


PLANS = {"3d": R3DPlan, "mc3": MC3Plan, "2plus1d": R2Plus1DPlan}


@register_family("r3d", paper="R3D (arXiv:1711.09577, arXiv:1711.11248)", clips={ResNetSpec: CLIP})
def r3d(
    spec: ResNetSpec,
    *,
    in_chans: int = 3,
    stem_pool: bool = True,
    convolutions: Literal["3d", "mc3", "2plus1d"] = "3d",
) -> ResNet3d:
    """Builds an R3D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        stem_pool: False omits the pool after the stem, as torchvision's r3d_18; such a network cannot be
            inflated from a 2D one.
        convolutions: "3d": all are 3D; "mc3": those up to res2 are; "2plus1d": each is a spatial and a
            temporal one, which cannot be inflated from a 2D network.
    """
    return ResNet3d(spec, PLANS[convolutions](stem_pool), in_chans=in_chans)


register_student("r3d_resnet18", "r3d", RESNET18, CLIP, source="resnet18")
register_student("r3d_resnet34", "r3d", RESNET34, CLIP, source="resnet34")
register_student("r3d_resnet50", "r3d", RESNET50, CLIP, source="resnet50")
register_student("r3d_tiny", "r3d", TEST_RESNET, TINY_CLIP, source="test_resnet")
