"""Any convolutional network of timm over clips: its spatial convolutions become 3D by rule.

Rule: a convolution whose kernel is larger than its stride sees as many frames as its stage
says; everything else stays as it is, 1 wide in time. A stage is the power of two by which a layer's output is
smaller than the input. As in SlowFast's slow path (arXiv:1812.03982, table 1) the late stages see time, and T
is never strided.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from timm import layers as timm_layers
from timm.models import group_parameters
from torch import Tensor, nn

from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.trunk import Trunk, fixed_statistics
from transfer3d.nn.failing_module import failing_module
from transfer3d.nn.framewise import FrameCount, TemporalConv, fold_frames, unfold_frames

DEPTHS = (1, 1, 1, 1, 3, 3)
"""Frames seen at 1, 1/2, 1/4, 1/8, 1/16 and 1/32 (or less) of the input's size."""

Conv2dSame: Any = timm_layers.Conv2dSame  # pyright: ignore[reportPrivateImportUsage]
INFLATABLE: tuple[type[nn.Conv2d], ...] = (nn.Conv2d, Conv2dSame)


@dataclass(frozen=True, kw_only=True)
class TimmSpec(TrunkSpec):
    """A network of timm.

    Attributes:
        architecture: timm's name, without a tag.
    """

    architecture: str

    def __post_init__(self) -> None:
        if not timm.is_model(self.architecture):
            raise ValueError(f"timm has no model '{self.architecture}'")


class Timm3d(Trunk):
    """A timm network over clips.

    Args:
        spec: names the 2D network.
        in_chans: channels of a frame.
        depths: see `DEPTHS`.

    Raises:
        ValueError: no convolution of it could see time, or one that should has no 3D form.
    """

    pools_by_average = False

    def __init__(self, spec: TimmSpec, *, in_chans: int = 3, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        if len(depths) != len(DEPTHS) or min(depths) < 1:
            raise ValueError(f"depths={list(depths)}: {len(DEPTHS)} numbers from 1")
        self.net: Any = timm.create_model(spec.architecture, num_classes=0, in_chans=in_chans)
        self.num_features = int(getattr(self.net, "head_hidden_size", 0) or self.net.num_features)
        if hasattr(self.net, "forward_intermediates"):
            self.stages = tuple(info["module"] for info in self.net.feature_info)
        self.count = FrameCount()
        stages = convolution_stages(spec.architecture, in_chans)
        chosen = {name: depths[stage] for name, stage in stages.items() if depths[stage] > 1}
        if not chosen and max(depths) > 1:
            raise ValueError(
                f"{spec.architecture} has no spatial convolution in the stages that see time "
                f"(depths {list(depths)} at 1, 1/2, 1/4, 1/8, 1/16, 1/32 of the input's size)"
            )
        for name, depth in chosen.items():
            self._inflate(name, depth, spec.architecture)

    def _inflate(self, name: str, depth: int, architecture: str) -> None:
        conv = self.net.get_submodule(name)
        if type(conv) not in INFLATABLE:
            raise ValueError(f"{architecture} has a {type(conv).__name__} ('{name}'), which has no 3D form")
        parent, _, child = name.rpartition(".")
        try:
            temporal = TemporalConv(conv, depth, self.count, same=isinstance(conv, Conv2dSame))
        except ValueError as error:
            raise ValueError(f"{architecture}, '{name}': {error}") from error
        setattr(self.net.get_submodule(parent), child, temporal)

    def layers(self) -> dict[str, tuple[int, nn.Module]]:
        """The layers that timm lists as features."""
        return {name: (index, self.net.get_submodule(name)) for index, name in enumerate(self.stages)}

    def forward(self, clips: Tensor, units: int = 1) -> Tensor:
        """`B C T H W` to feature maps `B D T' H' W'`."""
        self.count.frames = clips.shape[2]
        return self._unfold(self.net.forward_features(fold_frames(clips)))

    def forward_layers(
        self, clips: Tensor, units: int, names: Collection[str], *, stop_early: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """By timm's own `forward_intermediates`."""
        if not names:
            return self.forward(clips), {}
        self.count.frames = clips.shape[2]
        ordered = [name for name in self.stages if name in names]
        taken = self.net.forward_intermediates(
            fold_frames(clips),
            indices=[self.stages.index(name) for name in ordered],
            stop_early=stop_early,
            intermediates_only=stop_early,
        )
        final, maps = (taken[-1], taken) if stop_early else taken
        return self._unfold(final), {
            name: self._unfold(layer) for name, layer in zip(ordered, maps, strict=True)
        }

    def pool_features(self, maps: Tensor) -> Tensor:
        """Pools each frame as the 2D network does, then averages over time: `B D T' H' W'` to `B D'`."""
        pooled = self.net.forward_head(fold_frames(maps), pre_logits=True)
        return pooled.unflatten(0, (-1, maps.shape[2])).mean(1)

    def prune(self, stage: str) -> None:
        """Where timm's network can."""
        last = self.stages.index(stage)
        self.stages = self.stages[: last + 1]
        if hasattr(self.net, "prune_intermediate_layers"):
            self.net.prune_intermediate_layers([last])

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The groups of timm's network."""
        groups = group_parameters(self.net, self.net.group_matcher(coarse=coarse))
        return {
            f"net.{group}": rf"net\.(?:{'|'.join(map(re.escape, names))})$" for group, names in groups.items()
        }

    def no_weight_decay(self) -> set[str]:
        """Those of timm's network."""
        return {f"net.{name}" for name in getattr(self.net, "no_weight_decay", set)()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As timm's network does it, but with BatchNorm statistics that move once."""
        super().set_grad_checkpointing(enable)
        self.net.set_grad_checkpointing(enable)

    def _unfold(self, maps: Tensor) -> Tensor:
        if self.grad_checkpointing and maps.requires_grad:
            maps.register_hook(self._fix_statistics)
        return unfold_frames(maps, self.count.frames)

    def _fix_statistics(self, gradient: Tensor) -> None:
        """Keeps the BatchNorm statistics from the first gradient until the end of the backward pass."""
        fixed = ExitStack()
        fixed.enter_context(fixed_statistics(self.net))
        torch.autograd.Variable._execution_engine.queue_callback(fixed.close)


def convolution_stages(architecture: str, in_chans: int) -> dict[str, int]:
    """Returns the stage of every spatial convolution of a timm network, by name.

    Raises:
        ValueError: the network does not map an image to feature maps.
    """
    with torch.device("meta"):
        net = timm.create_model(architecture, num_classes=0, in_chans=in_chans).eval()
        size = cast(Any, net).pretrained_cfg["input_size"][-1]
        images = torch.empty(1, in_chans, size, size)
    stages: dict[str, int] = {}

    def hook(name: str) -> Any:
        def record(module: nn.Conv2d, inputs: Any, output: Tensor) -> None:
            if any(k > s for k, s in zip(module.kernel_size, module.stride, strict=True)):
                stages[name] = min(round(math.log2(size / output.shape[-1])), len(DEPTHS) - 1)

        return record

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(hook(name))
    try:
        with torch.no_grad():
            maps = cast(Any, net).forward_features(images)
    except Exception as error:  # other people's code: it may raise anything
        raise ValueError(f"{architecture} cannot be followed: {failing_module(error, net)}") from error
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
        raise ValueError(f"{architecture} gives no feature maps B D H W")
    return stages
