"""I3D-S: the slow path of SlowFast, the 3D backbone of V4D.

Papers: Feichtenhofer et al., arXiv:1812.03982; Zhang et al., "V4D", ICLR 2020, tables 1 and 2.

`extra` is V4D's "I3D-S ResNet18++": one more 3x3x3 residual convolution at the end of res4, so that V4D is
compared with a network of at least its own size. It is a 4D block with kernel size 1 over units.
"""

from __future__ import annotations

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
)
from transfer3d.models.trunks.slow_path import SlowPathPlan
from transfer3d.nn.residual4d import Residual4d
from transfer3d.nn.units import AcrossUnits

CLIP_16 = ClipSpec(frames=16, stride=2, size=224, crop=256)
"""V4D, table 2: 16 frames of a snippet of 32."""

CLIP_8x8 = ClipSpec(frames=8, stride=8, size=256, crop=256)
"""SlowFast's "8x8", tested on 256x256."""

EXTRA_STAGE = 4


class I3DSPlan(SlowPathPlan):
    """The slow path; `extra` adds a residual convolution at the end of res4."""

    def __init__(self, extra: bool) -> None:
        self.extra = extra

    def after_block(self, site: BlockSite) -> AcrossUnits | None:
        """The additional convolution of ++."""
        if not (self.extra and site.last and site.stage == EXTRA_STAGE):
            return None
        return Residual4d(site.out_channels, (1, 3, 3, 3))


@register_family(
    "i3ds", paper="SlowFast's slow path (arXiv:1812.03982), as in V4D", clips={ResNetSpec: CLIP_16}
)
def i3ds(spec: ResNetSpec, *, in_chans: int = 3, extra: bool = False) -> ResNet3d:
    """Builds an I3D-S trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        extra: V4D's ++.
    """
    return ResNet3d(spec, I3DSPlan(extra), in_chans=in_chans)


register_student("i3ds_resnet18", "i3ds", RESNET18, CLIP_16, source="resnet18")
register_student("i3ds_resnet34", "i3ds", RESNET34, CLIP_16, source="resnet34")
register_student("i3ds_resnet50", "i3ds", RESNET50, CLIP_8x8, source="resnet50")
register_student("i3ds_resnet101", "i3ds", RESNET101, CLIP_8x8, source="resnet101")
register_student(
    "i3ds_resnet18_extra",
    "i3ds",
    RESNET18,
    CLIP_16,
    source="resnet18",
    aliases=("i3ds_resnet18++",),
    options={"extra": True},
)
register_student("i3ds_tiny", "i3ds", TEST_RESNET, TINY_CLIP, source="test_resnet")
