"""ViViT's model 1 as published: one class token and one position embedding for all tubelets of a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transfer3d.errors import UsageError
from transfer3d.models.trunks.timm_spec import ViTSpec
from transfer3d.models.trunks.vit import VideoViT


class JointTableViT(VideoViT):
    """A vision transformer that takes a clip as one image of T' * H' rows of patches.

    Args:
        spec: the 2D network, with absolute positions.
        in_chans: channels of a frame.
        frames: T, a multiple of `tubelet`.
        tubelet: frames of a time step.

    Raises:
        ValueError: the network has no absolute positions, or rotary ones too, or T is not a multiple of the
            tubelet.
    """

    def __init__(self, spec: ViTSpec, *, in_chans: int, frames: int, tubelet: int) -> None:
        super().__init__(spec, in_chans=in_chans, frames=frames, tubelet=tubelet)
        net = self.net
        if net.pos_embed is None or getattr(net, "rope", None) is not None:
            raise ValueError(
                f"positions='joint': {spec.architecture} needs absolute positions, and no rotary ones"
            )
        if frames % tubelet:
            raise ValueError(f"positions='joint': T = {frames} is not a multiple of tubelet = {tubelet}")
        net.patch_embed.proj.in_rows = True
        rows, columns = net.patch_embed.grid_size
        net.patch_embed.grid_size = (self.time_steps * rows, columns)
        prefix = 0 if net.no_embed_class else self.prefix
        table = torch.empty(1, prefix + self.time_steps * rows * columns, net.embed_dim)
        net.pos_embed = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.shape = (frames, spec.img_size, spec.img_size)

    def _steps_as_images(self, clips: Tensor) -> Tensor:
        if tuple(clips.shape[2:]) != self.shape:
            given, own = ("x".join(map(str, shape)) for shape in (clips.shape[2:], self.shape))
            raise UsageError(f"positions='joint': the network takes clips of {own}, not {given}.")
        return super()._steps_as_images(clips)

    def pool_features(self, maps: Tensor) -> Tensor:
        """Pools the tokens of the clip as the 2D network pools those of an image: `B D T' L 1` to `B D`."""
        prefix, patches = maps[:, :, 0, : self.prefix, 0], maps[:, :, :, self.prefix :, 0].flatten(2)
        return self.net.forward_head(torch.cat((prefix, patches), 2).transpose(1, 2), pre_logits=True)

    def token_maps(self, tokens: Tensor) -> Tensor:
        """Gives each step a copy of the prefix: `B L D` to `B D T' L' 1`."""
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        patches = patches.unflatten(1, (self.time_steps, -1))
        prefix = prefix[:, None].expand(-1, self.time_steps, -1, -1)
        return torch.cat((prefix, patches), 2).permute(0, 3, 1, 2).unsqueeze(-1)
