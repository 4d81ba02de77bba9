"""timm's Swin transformers over clips: windows over space and time, see `nn/joint_windows.py`."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import nn

from transfer3d.models import tiny_swin  # noqa: F401 - registers it
from transfer3d.models.trunks.timm_spec import SwinSpec
from transfer3d.models.trunks.tubelets import TubeletTrunk, build_sized, unsupported_ends
from transfer3d.nn.joint_windows import JointWindows

NETWORKS = (SwinTransformer, SwinTransformerV2)


def build_swin(spec: SwinSpec, *, num_classes: int = 0, in_chans: int = 3) -> nn.Module:
    """Builds the 2D network with random weights, for images of any size and without stochastic depth.

    Raises:
        ValueError: timm has no such network or refuses the arguments, or it is of another kind.
    """
    return build_sized(
        spec,
        unsupported_swin,
        num_classes=num_classes,
        in_chans=in_chans,
        drop_path_rate=0.0,
        strict_img_size=False,
    )


def unsupported_swin(net: nn.Module) -> str | None:
    """Returns what keeps a network from being such a trunk, by the operator's name, or None."""
    if type(net) not in NETWORKS:
        return f"the architecture {type(net).__name__}"
    return unsupported_ends(net)


class VideoSwin(TubeletTrunk):
    """A Swin transformer whose windows hold several time steps.

    Args:
        spec: the 2D network.
        in_chans: channels of a frame.
        frames: T of the clips that it learns from.
        tubelet: frames of a time step.
        window: time steps of a window; no more than such a clip has.

    Raises:
        ValueError: the network has another kind, or the clips have fewer than two time steps.
    """

    def __init__(self, spec: SwinSpec, *, in_chans: int, frames: int, tubelet: int, window: int) -> None:
        if window < 1:
            raise ValueError(f"windows of {window} time steps: from 1")
        super().__init__(build_swin(spec, in_chans=in_chans), frames=frames, tubelet=tubelet)
        window = min(window, self.time_steps)
        for stage in self.net.layers:
            for index, block in enumerate(stage.blocks):
                block.attn = JointWindows(block.attn, window, index % 2 * (window // 2), self.count)
