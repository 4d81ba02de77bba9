"""I3D: the inflated Inception-v1, and any convolutional timm network inflated in the same way.

Paper: Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset",
CVPR 2017, figure 3. Differs from it as torchvision's googlenet differs from Inception-v1: see
`trunks/googlenet3d.py`. For the rule by which other networks are inflated, see `trunks/timm3d.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.googlenet3d import GOOGLENET, TEST_GOOGLENET, GoogLeNet3d, GoogLeNetSpec
from transfer3d.models.trunks.timm_spec import TimmSpec
from transfer3d.models.trunks.trunk import Trunk

CLIP = ClipSpec(frames=64, stride=1, size=224, crop=256)
"""Section 2.3: 64 frames in training, short side 256, 224x224."""


CLIP_8x8 = ClipSpec(frames=8, stride=8, size=224, crop=256)
"""SlowFast's "8x8": T is not strided in these networks, and 64 frames would cost 64 times the 2D network."""


@register_family(
    "i3d", paper="I3D, CVPR 2017 (arXiv:1705.07750)", clips={GoogLeNetSpec: CLIP, TimmSpec: CLIP_8x8}
)
def i3d(spec: GoogLeNetSpec | TimmSpec, *, in_chans: int = 3, depths: Sequence[int] | None = None) -> Trunk:
    """Builds an I3D trunk.

    Args:
        spec: the 2D shape.
        in_chans: channels of a frame.
        depths: temporal kernel size of spatial convolutions, per stage, for timm networks (`timm3d.DEPTHS`).
    """
    if isinstance(spec, TimmSpec):
        from transfer3d.models.trunks.timm3d import DEPTHS, Timm3d

        return Timm3d(spec, in_chans=in_chans, depths=DEPTHS if depths is None else depths)
    if depths is not None:
        raise ValueError(f"depths={list(depths)}: cannot be set for GoogLeNet, which has the paper's")
    return GoogLeNet3d(spec, in_chans=in_chans)


register_student("i3d_googlenet", "i3d", GOOGLENET, CLIP, source="googlenet")
register_student("i3d_tiny", "i3d", TEST_GOOGLENET, TINY_CLIP, source="test_googlenet")
