"""The ResNet that P3D, I3D-S, R3D, V4D and F4D are built on: a 2D shape, and a plan of what happens in time.

`ResNetSpec` is the 2D part, and says what a timm resnet says. `TimePlan` is a family: it chooses the temporal
depth and stride of every convolution, may put another module in a convolution's place, and may append layers
after the stem, after any block and after any stage. The base class treats every frame alone.

Papers: He et al., arXiv:1512.03385 (shape); Xie et al., arXiv:1611.05431 (groups); He et al.,
arXiv:1812.01187 (deep stem, average-pooled shortcut); Hu et al., arXiv:1709.01507 (squeeze-and-excitation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt
from torch import nn

from transfer3d.layout import Triple
from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.trunk import Stage, Trunk
from transfer3d.nn.convolution import ConvNorm
from transfer3d.nn.pooling import SpatialMaxPool
from transfer3d.nn.residual import Residual, Shortcut, SqueezeExcite
from transfer3d.nn.units import AcrossUnits

BlockKind = Literal["basic", "bottleneck"]
EXPANSION: dict[BlockKind, int] = {"basic": 1, "bottleneck": 4}
FIRST_STAGE = 2  # the papers count res2, res3, res4, res5


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(TrunkSpec):
    """The shape of a 2D ResNet, stage by stage.

    Attributes:
        depths: blocks of each stage.
        kinds: block kind of each stage; timm's `test_resnet` mixes them.
        widths: base channels of each stage; a stage's output has `EXPANSION[kind]` times as many.
        stem: output channels of the stem's convolutions: one 7x7, or (deep) three 3x3.
        avg_down: shortcuts are average-pooled instead of strided.
        cardinality: groups of a bottleneck's 3x3.
        base_width: inner channels of a bottleneck are widths * base_width / 64 * cardinality.
        squeeze: squeeze-and-excitation ratio (timm: 1/16); 0 for none.
    """

    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    kinds: tuple[BlockKind, ...]
    widths: tuple[PositiveInt, ...] = (64, 128, 256, 512)
    stem: tuple[PositiveInt, ...] = (64,)
    avg_down: bool = False
    cardinality: PositiveInt = 1
    base_width: PositiveInt = 64
    squeeze: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.kinds) == len(self.widths):
            raise ValueError(
                f"depths {self.depths}, kinds {self.kinds}, widths {self.widths}: lengths differ"
            )
        if unknown := set(self.kinds) - set(get_args(BlockKind)):
            raise ValueError(f"block kinds {sorted(unknown)}: known are {get_args(BlockKind)}")
        if len(self.stem) not in (1, 3):
            raise ValueError(f"stem {self.stem}: one convolution or three")

    @property
    def num_features(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1] * EXPANSION[self.kinds[-1]]


RESNET18 = ResNetSpec(depths=(2, 2, 2, 2), kinds=("basic",) * 4)
RESNET34 = ResNetSpec(depths=(3, 4, 6, 3), kinds=("basic",) * 4)
RESNET50 = ResNetSpec(depths=(3, 4, 6, 3), kinds=("bottleneck",) * 4)
RESNET101 = ResNetSpec(depths=(3, 4, 23, 3), kinds=("bottleneck",) * 4)
RESNET152 = ResNetSpec(depths=(3, 8, 36, 3), kinds=("bottleneck",) * 4)
TEST_RESNET = ResNetSpec(
    depths=(1, 1, 1, 1),
    kinds=("basic", "basic", "bottleneck", "basic"),
    widths=(32, 48, 48, 96),
    stem=(16, 16, 32),
    avg_down=True,
)


@dataclass(frozen=True, kw_only=True)
class BlockSite:
    """The position of a block, and its size.

    Attributes:
        stage: 2..5, as in res2..res5.
        index: position in its stage, from 0.
        number: position in the whole net, from 0.
        last: whether it ends its stage.
        kind: basic or bottleneck.
        in_channels: of its input.
        inner_channels: of its 3x3.
        out_channels: of its output.
        stride: in space.
    """

    stage: int
    index: int
    number: int
    last: bool
    kind: BlockKind
    in_channels: int
    inner_channels: int
    out_channels: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class ConvSite:
    """One convolution of a block, as the 2D net has it.

    Attributes:
        block: the block that it is in.
        index: position in the block, from 0.
        in_channels: of its input.
        out_channels: of its output.
        kernel: 1 or 3, in space.
        strided: whether the block's stride is applied here.
        groups: of the convolution.
        act: whether a ReLU follows (the last one's follows the sum).
    """

    block: BlockSite
    index: int
    in_channels: int
    out_channels: int
    kernel: int
    strided: bool
    groups: int
    act: bool


class TimePlan:
    """What a family does in time. This one does nothing: every frame is seen alone."""

    stride_in: Literal["reduce", "spatial"] = "spatial"
    """Where a striding bottleneck strides: in its first 1x1 (the original ResNet) or in its 3x3 (timm)."""

    def stem_depth(self, index: int) -> int:
        """Temporal depth of the stem's convolution `index`."""
        return 1

    def stem_conv(self, index: int, in_channels: int, out_channels: int, size: int, stride: int) -> nn.Module:
        """Builds the stem's convolution `index`; size and stride are those in space."""
        kernel = (self.stem_depth(index), size, size)
        return ConvNorm(in_channels, out_channels, kernel, stride=(1, stride, stride))

    def stem_pool(self) -> nn.Module:
        """What follows the stem: in 2D a 3x3 max pool of stride 2."""
        return SpatialMaxPool(3, 2, 1)

    def stride(self, site: BlockSite) -> int:
        """Temporal stride of a block."""
        return 1

    def depth(self, site: ConvSite) -> int:
        """Temporal depth of a convolution."""
        return 1

    def conv(self, site: ConvSite, stride: Triple) -> nn.Module:
        """Builds a convolution of a block, or what replaces it."""
        return ConvNorm(
            site.in_channels,
            site.out_channels,
            (self.depth(site), site.kernel, site.kernel),
            stride=stride,
            groups=site.groups,
            act=site.act,
        )

    def after_stem(self, channels: int) -> AcrossUnits | None:
        """A layer between the stem and its pool."""
        return None

    def after_block(self, site: BlockSite) -> AcrossUnits | None:
        """A layer after a block."""
        return None

    def after_stage(self, stage: int) -> nn.Module | None:
        """A pool after a stage (2..5)."""
        return None


def block_sites(spec: ResNetSpec) -> Iterator[BlockSite]:
    """Yields every block of a net in order."""
    in_channels, number = spec.stem[-1], 0
    for stage, (depth, kind, width) in enumerate(zip(spec.depths, spec.kinds, spec.widths, strict=True)):
        bottleneck = kind == "bottleneck"
        for index in range(depth):
            site = BlockSite(
                stage=stage + FIRST_STAGE,
                index=index,
                number=number,
                last=index == depth - 1,
                kind=kind,
                in_channels=in_channels,
                inner_channels=width * spec.base_width // 64 * spec.cardinality if bottleneck else width,
                out_channels=width * EXPANSION[kind],
                stride=2 if stage > 0 and index == 0 else 1,
            )
            yield site
            in_channels, number = site.out_channels, number + 1


def _conv_sites(site: BlockSite, groups: int, stride_in: str) -> list[ConvSite]:
    """Lists the convolutions of a block."""
    inner, out = site.inner_channels, site.out_channels
    if site.kind == "basic":
        shape = ((site.in_channels, inner, 3, 1), (inner, out, 3, 1))
        strided = 0
    else:
        shape = ((site.in_channels, inner, 1, 1), (inner, inner, 3, groups), (inner, out, 1, 1))
        strided = 0 if stride_in == "reduce" else 1
    return [
        ConvSite(
            block=site,
            index=index,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=kernel,
            strided=index == strided,
            groups=conv_groups,
            act=index < len(shape) - 1,
        )
        for index, (in_channels, out_channels, kernel, conv_groups) in enumerate(shape)
    ]


def squeezed_channels(channels: int, ratio: float) -> int:
    """Inner channels of squeeze-and-excitation: the nearest multiple of 8, at least 8 (timm's rule)."""
    return max(8, int(channels * ratio + 4) // 8 * 8)


def _block(site: BlockSite, spec: ResNetSpec, plan: TimePlan) -> Residual:
    stride = (plan.stride(site), site.stride, site.stride)
    convs = [
        plan.conv(conv, stride if conv.strided else (1, 1, 1))
        for conv in _conv_sites(site, spec.cardinality, plan.stride_in)
    ]
    changes_size = max(stride) > 1 or site.in_channels != site.out_channels
    out = site.out_channels
    return Residual(
        convs,
        Shortcut(site.in_channels, out, stride, average=spec.avg_down) if changes_size else None,
        SqueezeExcite(out, squeezed_channels(out, spec.squeeze)) if spec.squeeze else None,
    )


class ResNet3d(Trunk):
    """Stem, res2..res5, and what a family's plan appends.

    Args:
        spec: the 2D shape.
        plan: what happens in time.
        in_chans: channels of a frame.
    """

    def __init__(self, spec: ResNetSpec, plan: TimePlan, *, in_chans: int = 3) -> None:
        super().__init__()
        self.num_features = spec.num_features
        self.stages = ("stem", *(f"res{stage + FIRST_STAGE}" for stage in range(len(spec.depths))))
        self.stem = _stem(spec, plan, in_chans)
        _append(self, "after_stem", plan.after_stem(spec.stem[-1]))
        self.stem_pool = plan.stem_pool()
        stage = Stage()
        for site in block_sites(spec):
            stage.add_module(str(site.index), _block(site, spec, plan))
            _append(stage, f"after{site.index}", plan.after_block(site))
            if site.last:
                self.add_module(f"res{site.stage}", stage)
                _append(self, f"res{site.stage}_pool", plan.after_stage(site.stage))
                stage = Stage()


def _stem(spec: ResNetSpec, plan: TimePlan, in_chans: int) -> nn.Sequential:
    size = 7 if len(spec.stem) == 1 else 3
    convs, before = [], in_chans
    for index, channels in enumerate(spec.stem):
        convs.append(plan.stem_conv(index, before, channels, size, 2 if index == 0 else 1))
        before = channels
    return nn.Sequential(*convs)


def _append(parent: nn.Module, name: str, module: nn.Module | None) -> None:
    if module is not None:
        parent.add_module(name, module)
