"""DenseNet3D: a DenseNet with 3D kernels and pools throughout.

Paper: Diba et al., "Temporal 3D ConvNets: New Architecture and Transfer Learning for Video Classification",
arXiv:1711.08200, section 3.1 and table 1.

Differs from the paper's text: the stem's max pool has a spatial stride of 2 (table 1 prints 1, but its output
sizes need 2).
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
from transfer3d.nn.temporal_transition import Transition

CLIP = ClipSpec(frames=32, stride=2, size=224, crop=256)
"""Section 4.4: 32 frames at stride 2, 224x224."""


@register_family("densenet3d", paper="T3D, arXiv:1711.08200", clips={DenseNetSpec: CLIP})
def densenet3d(spec: DenseNetSpec, *, in_chans: int = 3, stem_pool_t: int = 1) -> DenseNet3d:
    """Builds a DenseNet3D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        stem_pool_t: temporal stride of the stem's pool; the authors' release has 2.
    """

    def transition(index: int, in_channels: int, out_channels: int) -> nn.Module:
        return Transition(in_channels, out_channels)

    return DenseNet3d(spec, transition, stem_pool_t=stem_pool_t, in_chans=in_chans)


register_student(
    "densenet3d_densenet121",
    "densenet3d",
    DENSENET121,
    CLIP,
    source="densenet121",
    aliases=("densenet3d121",),
)
register_student(
    "densenet3d_densenet161",
    "densenet3d",
    DENSENET161,
    CLIP,
    source="densenet161",
    aliases=("densenet3d161",),
)
register_student(
    "densenet3d_densenet169",
    "densenet3d",
    DENSENET169,
    CLIP,
    source="densenet169",
    aliases=("densenet3d169",),
)
register_student(
    "densenet3d_densenet201",
    "densenet3d",
    DENSENET201,
    CLIP,
    source="densenet201",
    aliases=("densenet3d201",),
)
register_student("densenet3d_tiny", "densenet3d", TEST_DENSENET, TINY_CLIP, source="test_densenet")
