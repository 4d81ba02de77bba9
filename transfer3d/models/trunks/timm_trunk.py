"""A timm network as a trunk: it sees the frames of clips as a batch, and its own code runs it."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from transfer3d.models.trunks.trunk import Trunk, fixed_statistics
from transfer3d.nn.framewise import FrameCount, fold_frames, unfold_frames


def create_timm(architecture: str, **arguments: Any) -> nn.Module:
    """Builds a network of timm by its name alone, with random weights.

    Raises:
        ValueError: timm has no such network; addresses of files or hubs are refused.
    """
    if not timm.is_model(architecture):
        raise ValueError(f"timm has no model '{architecture}'")
    return timm.create_model(architecture, **arguments)


def channels_first(maps: Tensor, channels_last: bool) -> Tensor:
    """Returns maps `B D H W`, which come as `B H W D` where `channels_last`."""
    return maps.permute(0, 3, 1, 2) if channels_last else maps


class TimmTrunk(Trunk):
    """A timm network whose modules that see time share a `FrameCount`.

    Attributes:
        channels_last: whether its last maps are `B H W D`.

    Args:
        net: without a classifier.
    """

    pools_by_average = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net
        self.num_features = int(getattr(self.net, "head_hidden_size", 0) or self.net.num_features)
        if hasattr(self.net, "forward_intermediates"):
            self.stages = tuple(info["module"] for info in self.net.feature_info)
        self.channels_last: bool = getattr(net, "output_fmt", "NCHW") == "NHWC"
        self.count = FrameCount()

    def layers(self) -> dict[str, tuple[int, nn.Module]]:
        """The layers that timm lists as features."""
        return {name: (index, self.net.get_submodule(name)) for index, name in enumerate(self.stages)}

    def forward(self, clips: Tensor, units: int = 1) -> Tensor:
        """`B C T H W` to feature maps `B D T' H' W'`."""
        maps = self.net.forward_features(self._steps_as_images(clips))
        return self._unfold(channels_first(maps, self.channels_last))

    def forward_layers(
        self, clips: Tensor, units: int, names: Collection[str], *, stop_early: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Trunk`; computed by timm's own `forward_intermediates`."""
        if not names:
            return self.forward(clips), {}
        ordered = [name for name in self.stages if name in names]
        taken = self.net.forward_intermediates(
            self._steps_as_images(clips),
            indices=[self.stages.index(name) for name in ordered],
            stop_early=stop_early,
            intermediates_only=stop_early,
        )
        final, maps = (taken[-1], taken) if stop_early else taken
        final = final if stop_early else channels_first(final, self.channels_last)
        return self._unfold(final), {
            name: self._unfold(layer) for name, layer in zip(ordered, maps, strict=True)
        }

    def pool_features(self, maps: Tensor) -> Tensor:
        """Pools each frame as the 2D network does, then averages over time: `B D T' H' W'` to `B D'`."""
        frames = fold_frames(maps)
        frames = frames.permute(0, 2, 3, 1) if self.channels_last else frames
        pooled = self.net.forward_head(frames, pre_logits=True)
        return pooled.unflatten(0, (-1, maps.shape[2])).mean(1)

    def prune(self, stage: str) -> None:
        """Prunes the network too, if timm supports it."""
        last = self.stages.index(stage)
        self.stages = self.stages[: last + 1]
        if hasattr(self.net, "prune_intermediate_layers"):
            self.net.prune_intermediate_layers([last])

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Returns the groups of timm's network, with their names in the trunk."""
        groups = group_parameters(self.net, self.net.group_matcher(coarse=coarse))
        return {
            f"net.{group}": rf"net\.(?:{'|'.join(map(re.escape, names))})$" for group, names in groups.items()
        }

    def no_weight_decay(self) -> set[str]:
        """Returns the names that timm's network lists, with their prefix in the trunk."""
        patterns = getattr(self.net, "no_weight_decay", set)()
        names = [name for name, _ in self.net.named_parameters()]
        return {f"net.{name}" for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enables timm's checkpointing; BatchNorm statistics are still updated once per step."""
        super().set_grad_checkpointing(enable)
        self.net.set_grad_checkpointing(enable)

    def _steps_as_images(self, clips: Tensor) -> Tensor:
        """Returns `B*T C H W`; `count` then holds the number of time steps, and of clips."""
        self.count.clips, self.count.frames = clips.shape[0], clips.shape[2]
        return fold_frames(clips)

    def _unfold(self, maps: Tensor) -> Tensor:
        if self.grad_checkpointing and maps.requires_grad:
            maps.register_hook(self._fix_statistics)
        return unfold_frames(maps, self.count.frames)

    def _fix_statistics(self, gradient: Tensor) -> None:
        """Keeps the BatchNorm statistics from the first gradient until the end of the backward pass."""
        fixed = ExitStack()
        fixed.enter_context(fixed_statistics(self.net))
        torch.autograd.Variable._execution_engine.queue_callback(fixed.close)
