"""timm's vision transformers over clips: what all families share.

The 2D network's own code runs, over the time steps of clips as a batch; see `nn/joint_attention.py` and
`nn/divided_attention.py` for what joins the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from transfer3d.models.trunks.timm_spec import ViTSpec
from transfer3d.models.trunks.tubelets import TubeletTrunk, build_sized, unsupported_ends
from transfer3d.nn.temporal_encoder import TemporalEncoder
from transfer3d.nn.time_positions import TimedNorm, TimePositions

OPERATORS = {
    "relative_position_bias_table": "a relative position bias",
    "RelPosAttention": "a relative position bias",
    "dist_token": "a distillation token",
    "XCA": "cross-covariance attention",
    "GPSA": "gated positional self-attention",
    "TalkingHeadAttn": "talking-heads attention",
}
"""Operators of other architectures, by the name of a parameter or a class."""


def build_vit(spec: ViTSpec, *, num_classes: int = 0, in_chans: int = 3) -> nn.Module:
    """Builds the 2D network with random weights.

    Raises:
        ValueError: timm has no such network or refuses the arguments, or it is of another kind.
    """
    return build_sized(spec, unsupported, num_classes=num_classes, in_chans=in_chans, dynamic_img_size=True)


def unsupported(net: nn.Module) -> str | None:
    """Returns what keeps a network from being one of these trunks, by the operator's name, or None."""
    if type(net) not in (VisionTransformer, Eva):
        return _operator(net) or f"the architecture {type(net).__name__}"
    parts = cast(Any, net)
    if fault := unsupported_ends(net):
        return fault
    if parts.patch_embed.dynamic_img_pad:
        return "padded patches (dynamic_img_pad)"
    if not isinstance(parts.patch_drop, nn.Identity | None):
        return "patch dropout (patch_drop_rate)"
    return None


def _operator(net: nn.Module) -> str | None:
    """Returns the operator of another architecture that no family supports, if it is a known one."""
    names = {name.rpartition(".")[2] for name, _ in net.named_parameters()}
    names |= {type(module).__name__ for module in net.modules()}
    found = [f"{operator} ({type(net).__name__})" for mark, operator in OPERATORS.items() if mark in names]
    return next(iter(found), None)


class VideoViT(TubeletTrunk):
    """A vision transformer that takes each time step of a clip as an image.

    Its feature maps are tokens, as timm's: `B D T' L 1`, L = class and register tokens, then patches row by
    row. `forward_layers` gives maps of the patches alone: `B D T' H' W'`.

    Clips may have any size and length: positions are interpolated.

    Attributes:
        prefix: class and register tokens of a step.
        temporal: blocks over the pooled features of the steps; None = these are averaged.

    Args:
        spec: the 2D network.
        in_chans: channels of a frame.
        frames: T of the clips that it learns from.
        tubelet: frames of a time step.

    Raises:
        ValueError: the network has another kind, or the clips have fewer than two time steps.
    """

    gives_tokens = True
    largest_reduction = 1

    def __init__(self, spec: ViTSpec, *, in_chans: int, frames: int, tubelet: int) -> None:
        super().__init__(build_vit(spec, in_chans=in_chans), frames=frames, tubelet=tubelet)
        self.prefix: int = self.net.num_prefix_tokens
        self.temporal: TemporalEncoder | None = None

    def add_time_positions(self, *, skip: int) -> None:
        """Adds positions in time to all tokens of a step but the first `skip`."""
        positions = TimePositions(self.time_steps, self.net.embed_dim, self.count, skip=skip)
        self.net.norm_pre = TimedNorm(positions, self.net.norm_pre)

    def wrap_blocks(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """Replaces each block."""
        for index, block in enumerate(self.net.blocks):
            self.net.blocks[index] = wrap(block)

    def forward(self, clips: Tensor, units: int = 1) -> Tensor:
        """`B C T H W` to tokens `B D T' L 1`."""
        return self.token_maps(self.net.forward_features(self._steps_as_images(clips)))

    def forward_layers(
        self, clips: Tensor, units: int, names: Collection[str], *, stop_early: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Trunk`; computed by timm's own `forward_intermediates`, and the maps are of patch tokens."""
        if not names:
            return self.forward(clips), {}
        ordered = [name for name in self.stages if name in names]
        taken = self.net.forward_intermediates(
            self._steps_as_images(clips),
            indices=[self.stages.index(name) for name in ordered],
            stop_early=stop_early,
            output_fmt="NLC",
            intermediates_only=stop_early,
        )
        final, layers = (None, taken) if stop_early else taken
        height, width = self._grid(clips)
        maps = {
            name: patches.reshape(len(clips), self.count.frames, height, width, -1).permute(0, 4, 1, 2, 3)
            for name, patches in zip(ordered, layers, strict=True)
        }
        return maps[ordered[-1]] if final is None else self.token_maps(final), maps

    def pool_features(self, maps: Tensor) -> Tensor:
        """Pools each step as the 2D network does, then over time: `B D T' L 1` to `B D`."""
        self.count.frames = maps.shape[2]
        tokens = maps.squeeze(-1).permute(0, 2, 3, 1).flatten(0, 1)
        pooled = self.net.forward_head(tokens, pre_logits=True)
        if self.temporal is not None:
            return self.temporal(pooled)
        return pooled.unflatten(0, (-1, maps.shape[2])).mean(1)

    def prune(self, stage: str) -> None:
        """Removes the later blocks, the last norm and the pooling."""
        last = self.stages.index(stage)
        self.stages = self.stages[: last + 1]
        self.net.prune_intermediate_layers([last], prune_norm=True)
        self.temporal = None

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The groups of timm's network, then the blocks over time."""
        groups = super().group_matcher(coarse=coarse)
        return groups if self.temporal is None else {**groups, "temporal": r"temporal\."}

    def no_weight_decay(self) -> set[str]:
        """Those of timm's network, and the positions in time."""
        modules = self.named_modules()
        positions = {f"{name}.weight" for name, module in modules if isinstance(module, TimePositions)}
        return super().no_weight_decay() | positions

    def patch_maps(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Returns the patches among the last maps, normalised: `B D T' L 1` to `B D T' H' W'`."""
        return maps[:, :, :, self.prefix :, 0].unflatten(-1, (height, width))

    def token_maps(self, tokens: Tensor) -> Tensor:
        """Returns a block's tokens, `B*T' L D` of the clips that were seen last, as `B D T' L 1`."""
        return tokens.unflatten(0, (-1, self.count.frames)).permute(0, 3, 1, 2).unsqueeze(-1)
