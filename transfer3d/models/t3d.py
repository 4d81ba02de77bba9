"""T3D: DenseNet3D with temporal transition layers.

Paper: Diba et al., "Temporal 3D ConvNets: New Architecture and Transfer Learning for Video Classification",
arXiv:1711.08200, section 3.1, figure 1 and table 1.

The paper does not give the widths of a TTL's branches (see `TemporalTransition`), nor the padding of an even
temporal depth. Differs from its text as DenseNet3D does.
"""

from __future__ import annotations

from torch import nn

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.densenet3d import (
    DENSENET121,
    DENSENET161,
    DENSENET169,
    DENSENET201,
    TEST_DENSENET,
    DenseNet3d,
    DenseNetSpec,
)
from transfer3d.nn.temporal_transition import TemporalTransition

CLIP = ClipSpec(frames=32, stride=2, size=224, crop=256)
"""Section 4.4: 32 frames at stride 2, 224x224."""

TTL_DEPTHS = (6, 4, 4)
"""Table 1: temporal depth of the last branch of each transition."""


@register_family("t3d", paper="T3D, arXiv:1711.08200", clips={DenseNetSpec: CLIP})
def t3d(spec: DenseNetSpec, *, in_chans: int = 3, stem_pool_t: int = 1) -> DenseNet3d:
    """Builds a T3D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        stem_pool_t: temporal stride of the stem's pool; the authors' release has 2.
    """
    if len(spec.depths) != len(TTL_DEPTHS) + 1:
        raise ValueError(f"depths={spec.depths}: T3D has {len(TTL_DEPTHS) + 1} dense blocks")

    def transition(index: int, in_channels: int, out_channels: int) -> nn.Module:
        return TemporalTransition(
            in_channels, out_channels, branch_width=spec.growth_rate, depth=TTL_DEPTHS[index]
        )

    return DenseNet3d(spec, transition, stem_pool_t=stem_pool_t, in_chans=in_chans)


register_student("t3d_densenet121", "t3d", DENSENET121, CLIP, source="densenet121", aliases=("t3d121",))
register_student("t3d_densenet161", "t3d", DENSENET161, CLIP, source="densenet161", aliases=("t3d161",))
register_student("t3d_densenet169", "t3d", DENSENET169, CLIP, source="densenet169", aliases=("t3d169",))
register_student("t3d_densenet201", "t3d", DENSENET201, CLIP, source="densenet201", aliases=("t3d201",))
register_student("t3d_tiny", "t3d", TEST_DENSENET, TINY_CLIP, source="test_densenet")
