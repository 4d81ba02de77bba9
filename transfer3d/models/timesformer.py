"""TimeSformer: attention over time at each position, then within each frame; or a factorised encoder.

Paper: Bertasius, Wang, Torresani, "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021
(arXiv:2102.05095), "divided". As in its release, a linear layer follows the attention over time; it starts at
zero. `attention="factorised"` is the factorised encoder of ViViT (arXiv:2103.15691, model 2): see
`nn/temporal_encoder.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.timm_spec import ViTSpec
from transfer3d.models.trunks.trunk import Trunk

CLIP = ClipSpec(frames=8, stride=32, size=224, crop=256)
"""Section 4: 8 frames at stride 32, 224x224."""

HEAD_DIM = 64
Attention = Literal["divided", "factorised"]


@register_family("timesformer", paper="TimeSformer, ICML 2021 (arXiv:2102.05095)", clips={ViTSpec: CLIP})
def timesformer(
    spec: ViTSpec,
    *,
    in_chans: int = 3,
    frames: int = CLIP.frames,
    tubelet: int = 1,
    attention: Attention = "divided",
    encoder_depth: int = 4,
) -> Trunk:
    """Builds a TimeSformer trunk.

    Args:
        spec: the 2D network; `divided` needs pre-norm blocks with a single attention.
        in_chans: channels of a frame.
        frames: T of its learned temporal positions; they are interpolated for clips of another length.
        tubelet: frames per time step.
        attention: `divided`, or `factorised`: the whole 2D network on each step, then blocks over time.
        encoder_depth: number of blocks over time of `factorised`; ViViT, table 1: 4.
    """
    from timm.models.eva import EvaBlock
    from timm.models.vision_transformer import Block

    from transfer3d.models.trunks.vit import VideoViT
    from transfer3d.nn.divided_attention import DividedBlock
    from transfer3d.nn.temporal_encoder import TemporalEncoder

    trunk = VideoViT(spec, in_chans=in_chans, frames=frames, tubelet=tubelet)
    if attention == "factorised":
        dim = trunk.num_features
        trunk.temporal = TemporalEncoder(
            dim, encoder_depth, max(1, dim // HEAD_DIM), trunk.time_steps, trunk.count
        )
        return trunk
    for block in trunk.net.blocks:
        if type(block) not in (Block, EvaBlock):
            raise ValueError(
                f"{spec.architecture} has {type(block).__name__}, whose attention cannot be divided"
            )
    trunk.add_time_positions(skip=trunk.prefix)
    trunk.wrap_blocks(partial(DividedBlock, dim=trunk.net.embed_dim, count=trunk.count, prefix=trunk.prefix))
    return trunk


def _register(name: str, architecture: str) -> None:
    spec = ViTSpec(architecture=architecture, img_size=224)
    register_student(name, "timesformer", spec, CLIP, source=architecture)


_register("timesformer_base", "vit_base_patch16_224")
_register("timesformer_small", "vit_small_patch16_224")
register_student(
    "timesformer_tiny",
    "timesformer",
    ViTSpec(architecture="test_vit", img_size=TINY_CLIP.size),
    TINY_CLIP,
    source="test_vit",
)
