"""ViViT: joint attention over the tubelets of a clip.

Paper: Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021 (arXiv:2103.15691), model 1. By default,
the output for a still clip equals the 2D network's exactly. To this end the default differs from the paper:
each time step has its own class and register tokens (the paper's single class token would attend to T' patch
keys for each key of its own), and position embeddings are those of the 2D network plus a vector per time
step, initially zero. `positions="joint"` is the paper's network.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.timm_spec import ViTSpec
from transfer3d.models.trunks.trunk import Trunk

CLIP = ClipSpec(frames=32, stride=2, size=224, crop=256)
"""Section 4.1: 32 frames at stride 2, 224x224."""

Positions = Literal["factorised", "joint"]


@register_family("vivit", paper="ViViT, ICCV 2021 (arXiv:2103.15691)", clips={ViTSpec: CLIP})
def vivit(
    spec: ViTSpec,
    *,
    in_chans: int = 3,
    frames: int = CLIP.frames,
    tubelet: int = 2,
    positions: Positions = "factorised",
) -> Trunk:
    """Builds a ViViT trunk.

    Args:
        spec: the 2D network.
        in_chans: channels of a frame.
        frames: T of its learned temporal positions; they are interpolated for clips of another length.
        tubelet: frames of a tubelet.
        positions: `factorised`, in space and time; `joint`, the paper's: one table for all tubelets of a clip
            and one class token, which fixes the clip size and cannot be inflated.
    """
    from transfer3d.models.trunks.joint_table import JointTableViT
    from transfer3d.models.trunks.vit import VideoViT
    from transfer3d.nn.joint_attention import JointBlock

    if positions == "joint":
        return JointTableViT(spec, in_chans=in_chans, frames=frames, tubelet=tubelet)
    trunk = VideoViT(spec, in_chans=in_chans, frames=frames, tubelet=tubelet)
    trunk.add_time_positions(skip=0)
    trunk.wrap_blocks(partial(JointBlock, count=trunk.count))
    return trunk


def _register(name: str, architecture: str) -> None:
    spec = ViTSpec(architecture=architecture, img_size=224)
    register_student(name, "vivit", spec, CLIP, source=architecture)


_register("vivit_base", "vit_base_patch16_224")
_register("vivit_small", "vit_small_patch16_224")
register_student(
    "vivit_tiny",
    "vivit",
    ViTSpec(architecture="test_vit", img_size=TINY_CLIP.size),
    TINY_CLIP,
    source="test_vit",
    options={"frames": TINY_CLIP.frames},
)
