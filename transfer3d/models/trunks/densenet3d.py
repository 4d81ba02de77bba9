"""The DenseNet that DenseNet3D and T3D are built on.

Papers: Diba et al., arXiv:1711.08200, table 1 (3D); Huang et al., arXiv:1608.06993 (2D).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.trunk import Step, Trunk, recomputed
from transfer3d.nn.convolution import ConvNorm, conv3d
from transfer3d.nn.pooling import SpatialMaxPool, TemporalMaxPool


@dataclass(frozen=True, kw_only=True)
class DenseNetSpec(TrunkSpec):
    """The shape of a 2D DenseNet-BC with compression 0.5.

    Attributes:
        depths: layers of each dense block.
        growth_rate: channels that a layer adds; the stem has twice as many.
        bn_size: the 1x1 of a layer has bn_size * growth_rate channels.
    """

    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    growth_rate: PositiveInt = 32
    bn_size: PositiveInt = 4

    @property
    def num_features(self) -> int:
        """Channels after the last dense block."""
        channels = 2 * self.growth_rate
        for index, depth in enumerate(self.depths):
            channels += depth * self.growth_rate
            channels //= 2 if index < len(self.depths) - 1 else 1
        return channels


DENSENET121 = DenseNetSpec(depths=(6, 12, 24, 16))
DENSENET161 = DenseNetSpec(depths=(6, 12, 36, 24), growth_rate=48)
DENSENET169 = DenseNetSpec(depths=(6, 12, 32, 32))
DENSENET201 = DenseNetSpec(depths=(6, 12, 48, 32))
TEST_DENSENET = DenseNetSpec(depths=(3, 3, 3, 3), growth_rate=16)

TransitionMaker = Callable[[int, int, int], nn.Module]
"""(index from 0, input channels, output channels) to the module between two dense blocks."""


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1x1, BatchNorm, ReLU, 3x3x3; its input is everything before it in the block."""

    def __init__(self, in_channels: int, spec: DenseNetSpec) -> None:
        super().__init__()
        inner = spec.bn_size * spec.growth_rate
        self.norm1 = nn.BatchNorm3d(in_channels)
        self.conv1 = conv3d(in_channels, inner, (1, 1, 1))
        self.norm2 = nn.BatchNorm3d(inner)
        self.conv2 = conv3d(inner, spec.growth_rate, (3, 3, 3))

    def forward(self, *features: Tensor) -> Tensor:
        """Each `B C' T H W`, to `B growth_rate T H W`."""
        x = torch.cat(features, 1)
        x = self.conv1(F.relu(self.norm1(x), inplace=True))
        return self.conv2(F.relu(self.norm2(x), inplace=True))


class DenseBlock(nn.ModuleList):
    """Layers that each see all features before them.

    Attributes:
        grad_checkpointing: whether each layer computes its activations again in the backward pass, all but
            the last convolution's: then no concatenation is kept, only the features themselves.
    """

    grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C + layers * growth_rate T H W`."""
        features = [x]
        for layer in self:
            features.append(recomputed(layer, *features) if self.grad_checkpointing else layer(*features))
        return torch.cat(features, 1)


class DenseNet3d(Trunk):
    """Stem, dense blocks with transitions between them, BatchNorm, ReLU.

    Args:
        spec: the 2D shape.
        transition: makes the layer between two blocks.
        stem_pool_t: temporal stride of the stem's pool: 1 fits the sizes of table 1, the release has 2.
        in_chans: channels of a frame.
    """

    def __init__(
        self, spec: DenseNetSpec, transition: TransitionMaker, *, stem_pool_t: int = 1, in_chans: int = 3
    ) -> None:
        super().__init__()
        if stem_pool_t not in (1, 2):
            raise ValueError(f"stem_pool_t={stem_pool_t!r}: 1 (the paper) or 2 (the release)")
        self.num_features = spec.num_features
        self.stages = ("stem", *(f"blocks.{index}" for index in range(len(spec.depths) - 1)), "act")
        channels = 2 * spec.growth_rate
        self.stem = ConvNorm(in_chans, channels, (3, 7, 7), stride=(2, 2, 2))
        self.stem_pool = nn.Sequential(SpatialMaxPool(3, 2, 1), TemporalMaxPool(3, stem_pool_t))
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for index, depth in enumerate(spec.depths):
            layers = (DenseLayer(channels + n * spec.growth_rate, spec) for n in range(depth))
            self.blocks.append(DenseBlock(layers))
            channels += depth * spec.growth_rate
            if index < len(spec.depths) - 1:
                self.transitions.append(transition(index, channels, channels // 2))
                channels //= 2
        self.norm = nn.BatchNorm3d(channels)
        self.act = nn.ReLU()

    def parts(self) -> list[Step]:
        """A transition follows every block but the last."""
        parts: list[Step] = [("stem", self.stem), ("stem_pool", self.stem_pool)]
        for index, block in self.blocks.named_children():
            parts.append((f"blocks.{index}", block))
            if index in self.transitions._modules:
                parts.append((f"transitions.{index}", self.transitions.get_submodule(index)))
        return parts + [(name, module) for name, module in self.named_children() if name in ("norm", "act")]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As in `Trunk`, but layer by layer within a dense block."""
        super().set_grad_checkpointing(enable)
        for block in self.blocks:
            cast(DenseBlock, block).grad_checkpointing = enable

    def compiled_parts(self) -> list[nn.Module]:
        """Returns the blocks and transitions: as one graph T3D-121 took over ten minutes to compile."""
        return [module for _, module in self.parts()]

    def _apply_step(self, module: nn.Module, x: Tensor, units: int) -> Tensor:
        return module(x) if isinstance(module, DenseBlock) else super()._apply_step(module, x, units)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """As in `Trunk`; a transition belongs to the block before it."""
        blocks = range(len(self.blocks))
        groups = {f"blocks.{index}": rf"(?:blocks|transitions)\.{index}\." for index in blocks}
        if coarse:
            groups = {"blocks": r"(?:blocks|transitions)\."}
        return {"stem": r"stem\.", **groups, "norm": r"norm\."}
