"""A timm network over time steps of several frames: what begins with a patch embedding, not overlapping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from transfer3d.errors import UsageError
from transfer3d.models.trunks.timm_spec import SizedSpec
from transfer3d.models.trunks.timm_trunk import TimmTrunk, create_timm
from transfer3d.nn.framewise import fold_frames
from transfer3d.nn.tubelet import TubeletConv


def build_sized(
    spec: SizedSpec, unsupported: Callable[[nn.Module], str | None], **arguments: Any
) -> nn.Module:
    """Builds a 2D network with random weights, for images of the spec's size.

    Args:
        spec: names the network.
        unsupported: returns what keeps a network from being a trunk, or None.
        **arguments: of timm's network, besides those of the spec.

    Raises:
        ValueError: timm has no such network or refuses the arguments, or it is not supported.
    """
    try:
        net = create_timm(spec.architecture, **spec.overrides, img_size=spec.img_size, **arguments)
    except (AssertionError, LookupError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"timm's {spec.architecture} cannot be built: {str(error).rstrip('.')}") from error
    if fault := unsupported(net):
        raise ValueError(f"{spec.architecture} has {fault}, which has no form over clips")
    return net


def unsupported_ends(net: nn.Module) -> str | None:
    """Returns what the patch embedding or the pooling of a network lacks to be a trunk, or None."""
    parts = cast(Any, net)
    embed, side = type(parts.patch_embed), parts.patch_embed.img_size
    if embed is not PatchEmbed:
        return f"the patch embedding {embed.__name__}"
    if len(set(side)) > 1:
        return f"images of {'x'.join(map(str, side))}, which are not square,"
    if not parts.global_pool:
        return "no pooling (global_pool='')"
    return None


class TubeletTrunk(TimmTrunk):
    """A timm network that takes each time step of a clip, a tubelet, as an image.

    Clips may have any size and length: pixels after the last whole patch are left out, and the last frame is
    repeated until it fills a tubelet.

    Attributes:
        time_steps: T' of the clips that it learns from.

    Args:
        net: without a classifier, with timm's `patch_embed`.
        frames: T of the clips that it learns from.
        tubelet: frames of a time step.

    Raises:
        ValueError: the clips have fewer than two time steps.
    """

    exports_any_length = False

    def __init__(self, net: nn.Module, *, frames: int, tubelet: int) -> None:
        if tubelet < 1 or frames < 2 * tubelet:
            raise ValueError(f"{frames} frames in tubelets of {tubelet}: at least two time steps are needed")
        super().__init__(net)
        self.tubelet, self.time_steps = tubelet, -(-frames // tubelet)
        self.net.patch_embed.proj = TubeletConv(self.net.patch_embed.proj, tubelet, self.count)

    def _steps_as_images(self, clips: Tensor) -> Tensor:
        """Returns `B*T C H W` of whole patches and tubelets; `count` then holds the number of time steps."""
        (rows, columns), (height, width) = self.net.patch_embed.patch_size, self._grid(clips)
        if not height or not width:
            size = "x".join(map(str, clips.shape[-2:]))
            raise UsageError(f"frames of {size} are smaller than a patch of {rows}x{columns}.")
        clips = clips[..., : height * rows, : width * columns]
        if missing := -clips.shape[2] % self.tubelet:
            clips = torch.cat((clips, clips[:, :, -1:].expand(-1, -1, missing, -1, -1)), 2)
        self.count.clips, self.count.frames = clips.shape[0], clips.shape[2] // self.tubelet
        return fold_frames(clips)

    def _grid(self, clips: Tensor) -> tuple[int, int]:
        rows, columns = self.net.patch_embed.patch_size
        return clips.shape[-2] // rows, clips.shape[-1] // columns
