"""Video Swin: windows over space and time, shifted from block to block.

Paper: Liu et al., "Video Swin Transformer", CVPR 2022 (arXiv:2106.13230). Differs from it: `inflate` puts the
patch embedding's kernel into one frame by default (the paper: `mean`), and temporal padding of a window is
masked; see `nn/joint_windows.py`. Swin v2 networks, which the paper does not cover, are supported too.
"""

from __future__ import annotations

from transfer3d.layout import ClipSpec
from transfer3d.models.registry import TINY_CLIP, register_family, register_student
from transfer3d.models.trunks.timm_spec import SwinSpec
from transfer3d.models.trunks.trunk import Trunk

CLIP = ClipSpec(frames=32, stride=2, size=224, crop=256)
"""Section 4.1: 32 frames at stride 2, 224x224."""


@register_family("video_swin", paper="Video Swin, CVPR 2022 (arXiv:2106.13230)", clips={SwinSpec: CLIP})
def video_swin(
    spec: SwinSpec, *, in_chans: int = 3, frames: int = CLIP.frames, tubelet: int = 2, window: int = 8
) -> Trunk:
    """Builds a Video Swin trunk.

    Args:
        spec: the 2D network.
        in_chans: channels of a frame.
        frames: frames per training clip; a window is at most as long.
        tubelet: frames per time step.
        window: time steps per window; section 4.1: 8.
    """
    from transfer3d.models.trunks.swin import VideoSwin

    return VideoSwin(spec, in_chans=in_chans, frames=frames, tubelet=tubelet, window=window)


def _register(name: str, architecture: str) -> None:
    spec = SwinSpec(architecture=architecture, img_size=CLIP.size)
    register_student(name, "video_swin", spec, CLIP, source=architecture)


_register("video_swin_t", "swin_tiny_patch4_window7_224")
_register("video_swin_s", "swin_small_patch4_window7_224")
_register("video_swin_b", "swin_base_patch4_window7_224")
register_student(
    "video_swin_tiny",
    "video_swin",
    SwinSpec(architecture="test_swin", img_size=TINY_CLIP.size),
    TINY_CLIP,
    source="test_swin",
    options={"frames": TINY_CLIP.frames, "window": 2},
)
