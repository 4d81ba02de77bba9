"""Reads the architecture of a timm network and maps a student's module names to the network's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from timm import layers as timm_layers
from timm.models import DenseNet, ResNet
from timm.models.densenet import DenseBlock, DenseLayer, DenseTransition
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn
from torchvision.models.googlenet import BasicConv2d, Inception

from transfer3d.errors import UsageError
from transfer3d.inflation.swin_source import is_swin, read_swin
from transfer3d.inflation.timm_source import read_timm
from transfer3d.inflation.vit_source import is_vit, read_vit
from transfer3d.models.googlenet import GoogLeNet
from transfer3d.models.image import image_model_info
from transfer3d.models.trunks.densenet3d import DenseNetSpec
from transfer3d.models.trunks.googlenet3d import EPS as GOOGLENET_EPS
from transfer3d.models.trunks.googlenet3d import GoogLeNetSpec
from transfer3d.models.trunks.resnet3d import EXPANSION, FIRST_STAGE, BlockKind, ResNetSpec
from transfer3d.models.trunks.spec import TrunkSpec
from transfer3d.models.trunks.timm_spec import SizedSpec, SwinSpec, TimmSpec, ViTSpec

KNOWN_SOURCES = {
    ResNetSpec: "timm ResNets (test_resnet, resnet18 to resnet152; d, wide, resnext, seresnet forms)",
    DenseNetSpec: "timm DenseNets (test_densenet, densenet121, 161, 169, 201)",
    GoogLeNetSpec: "torchvision's GoogLeNet (test_googlenet, googlenet)",
    TimmSpec: "any convolutional timm network",
    ViTSpec: "timm's VisionTransformer and Eva networks (ViT, CLIP, SigLIP, DINOv2, DINOv3, EVA02)",
    SwinSpec: "timm's SwinTransformer and SwinTransformerV2 networks",
}
BATCH_NORM_EPS = 1e-5

# timm re-exports its layers without saying so to type checkers
BatchNormAct2d = timm_layers.BatchNormAct2d  # pyright: ignore[reportPrivateImportUsage]
SelectAdaptivePool2d = timm_layers.SelectAdaptivePool2d  # pyright: ignore[reportPrivateImportUsage]
SqueezeExcite = timm_layers.SqueezeExcite  # pyright: ignore[reportPrivateImportUsage]
Sigmoid = timm_layers.Sigmoid  # pyright: ignore[reportPrivateImportUsage]
DropPath = timm_layers.DropPath  # pyright: ignore[reportPrivateImportUsage]

KINDS: dict[type[nn.Module], BlockKind] = {BasicBlock: "basic", Bottleneck: "bottleneck"}

UNDERSTOOD: set[type[nn.Module]] = {
    *(ResNet, DenseNet, BasicBlock, Bottleneck, DenseBlock, DenseLayer, DenseTransition, SqueezeExcite),
    *(nn.Sequential, nn.Conv2d, nn.BatchNorm2d, BatchNormAct2d, nn.Linear, nn.ReLU, nn.Sigmoid, Sigmoid),
    *(nn.MaxPool2d, nn.AvgPool2d, SelectAdaptivePool2d, nn.AdaptiveAvgPool2d, nn.Flatten),
    *(nn.Identity, nn.Dropout, DropPath, GoogLeNet, Inception, BasicConv2d),
}
"""Layer types that have a 3D form here."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The description of a 2D network for inflation.

    Attributes:
        name: timm's architecture name.
        spec: its architecture.
        modules: maps modules of a student without temporal units to modules of the 2D network.
        head: names of the layers of the 2D network's classifier; if there are several, none is kept.
        num_classes: number of classes of that classifier.
        in_chans: number of input channels.
    """

    name: str
    spec: TrunkSpec
    modules: dict[str, str]
    head: tuple[str, ...]
    num_classes: int
    in_chans: int


SPEC_TYPES: dict[type[nn.Module], type[TrunkSpec]] = {
    ResNet: ResNetSpec,
    DenseNet: DenseNetSpec,
    GoogLeNet: GoogLeNetSpec,
}


def spec_types(model: nn.Module) -> list[type[TrunkSpec]]:
    """Returns the spec types that a network can be read as: its specific one, if any, then `TimmSpec`.

    A vision transformer is nothing but one, and so is a Swin transformer.
    """
    if is_vit(model):
        return [ViTSpec]
    if is_swin(model):
        return [SwinSpec]
    specific = [spec_type for net, spec_type in SPEC_TYPES.items() if isinstance(model, net)]
    return [*specific, TimmSpec]


def read_source(model: nn.Module, spec_type: type[TrunkSpec]) -> Source:
    """Reads a timm network as one of `spec_types(model)`.

    Raises:
        UsageError: one of its layers has no 3D form here.
    """
    name = image_model_info(model).name
    if spec_type is TimmSpec:
        spec, modules, head = read_timm(name, model)
    elif spec_type is ViTSpec:
        spec, modules, head = read_vit(name, model)
    elif spec_type is SwinSpec:
        spec, modules, head = read_swin(name, model)
    elif isinstance(model, ResNet):
        spec, modules, head = read_resnet(name, model)
    elif isinstance(model, DenseNet):
        spec, modules, head = read_densenet(model)
    else:
        net = cast(GoogLeNet, model)
        spec, modules, head = net.spec, dict(_googlenet_modules(net)), "fc"
    if not issubclass(spec_type, TimmSpec | SizedSpec):
        _check_layers(name, model, known=KNOWN_SOURCES[spec_type])
    return Source(
        name=name,
        spec=spec,
        modules=modules,
        head=(head,) if isinstance(head, str) else head,
        num_classes=int(cast(Any, model).num_classes),
        in_chans=int(cast(Any, model).in_chans),
    )


def read_resnet(name: str, model: ResNet) -> tuple[ResNetSpec, dict[str, str], str]:
    """Returns spec, module names and classifier of a timm ResNet."""
    net: Any = model
    stages = [list(getattr(net, f"layer{index}")) for index in range(1, 5)]
    kinds: tuple[BlockKind, ...] = tuple(KINDS[type(blocks[0])] for blocks in stages)
    widths = tuple(
        blocks[0].conv2.out_channels if kind == "basic" else blocks[0].conv3.out_channels // EXPANSION[kind]
        for blocks, kind in zip(stages, kinds, strict=True)
    )
    deep = isinstance(net.conv1, nn.Sequential)
    stem = [conv for conv in (net.conv1 if deep else [net.conv1]) if isinstance(conv, nn.Conv2d)]
    groups, base_width = 1, 64
    if "bottleneck" in kinds:
        first = kinds.index("bottleneck")
        groups = stages[first][0].conv2.groups
        base_width = stages[first][0].conv2.out_channels * 64 // (widths[first] * groups)
    excited = stages[-1][0].se
    spec = ResNetSpec(
        depths=tuple(len(blocks) for blocks in stages),
        kinds=kinds,
        widths=widths,
        stem=tuple(conv.out_channels for conv in stem),
        avg_down=any(
            blocks[0].downsample is not None and len(blocks[0].downsample) == 3 for blocks in stages
        ),
        cardinality=groups,
        base_width=base_width,
        squeeze=excited.fc1.out_channels / excited.fc1.in_channels
        if isinstance(excited, SqueezeExcite)
        else 0.0,
    )
    return spec, dict(_resnet_modules(spec)), "fc"


def _resnet_modules(spec: ResNetSpec) -> list[tuple[str, str]]:
    last = len(spec.stem) - 1
    pairs = [(f"trunk.stem.{last}.norm", "bn1")]
    pairs.append((f"trunk.stem.{last}.conv", "conv1" if last == 0 else f"conv1.{3 * last}"))
    for index in range(last):  # a deep stem is a Sequential of (conv, norm, act) whose last norm is bn1
        pairs.append((f"trunk.stem.{index}.conv", f"conv1.{3 * index}"))
        pairs.append((f"trunk.stem.{index}.norm", f"conv1.{3 * index + 1}"))
    for stage, (depth, kind) in enumerate(zip(spec.depths, spec.kinds, strict=True)):
        for block in range(depth):
            ours, theirs = f"trunk.res{stage + FIRST_STAGE}.{block}", f"layer{stage + 1}.{block}"
            for unit in range(2 if kind == "basic" else 3):
                pairs.append((f"{ours}.units.{unit}.conv", f"{theirs}.conv{unit + 1}"))
                pairs.append((f"{ours}.units.{unit}.norm", f"{theirs}.bn{unit + 1}"))
            pairs.append((f"{ours}.shortcut.project.conv", f"{theirs}.downsample.{int(spec.avg_down)}"))
            pairs.append((f"{ours}.shortcut.project.norm", f"{theirs}.downsample.{int(spec.avg_down) + 1}"))
            pairs += [(f"{ours}.se.{fc}", f"{theirs}.se.{fc}") for fc in ("fc1", "fc2")]
    return pairs


def read_densenet(model: DenseNet) -> tuple[DenseNetSpec, dict[str, str], str]:
    """Returns spec, module names and classifier of a timm DenseNet."""
    features: Any = model.features
    blocks = [module for module in features if isinstance(module, DenseBlock)]
    first: Any = next(iter(blocks[0].values()))
    growth_rate = first.conv2.out_channels
    spec = DenseNetSpec(
        depths=tuple(len(block) for block in blocks),
        growth_rate=growth_rate,
        bn_size=first.conv1.out_channels // growth_rate,
    )
    pairs = [("trunk.stem.conv", "features.conv0"), ("trunk.stem.norm", "features.norm0")]
    for block, depth in enumerate(spec.depths):
        for layer in range(depth):
            ours, theirs = (
                f"trunk.blocks.{block}.{layer}",
                f"features.denseblock{block + 1}.denselayer{layer + 1}",
            )
            pairs += [(f"{ours}.{part}", f"{theirs}.{part}") for part in ("norm1", "conv1", "norm2", "conv2")]
        ours, theirs = f"trunk.transitions.{block}", f"features.transition{block + 1}"
        pairs += [(f"{ours}.{part}", f"{theirs}.{part}") for part in ("norm", "conv")]
    pairs.append(("trunk.norm", "features.norm5"))
    return spec, dict(pairs), "classifier"


def _googlenet_modules(model: GoogLeNet) -> list[tuple[str, str]]:
    """Returns the pairs of module names; the student has torchvision's names, except for norms."""
    convs = [path for path, module in model.named_modules() if isinstance(module, BasicConv2d)]
    return [
        (f"trunk.{path}.{ours}", f"{path}.{theirs}")
        for path in convs
        for ours, theirs in (("conv", "conv"), ("norm", "bn"))
    ]


def _check_layers(name: str, model: nn.Module, known: str) -> None:
    """Raises UsageError if the network has layers or settings that its spec does not describe."""
    unsupported = {type(module).__name__ for module in model.modules() if type(module) not in UNDERSTOOD}
    eps = GOOGLENET_EPS if isinstance(model, GoogLeNet) else BATCH_NORM_EPS
    for path, module in model.named_modules():
        if path == "maxpool" and not isinstance(module, nn.MaxPool2d):
            unsupported.add("a stem without its max pool")
        if path.endswith(".aa") and not isinstance(module, nn.Identity):
            unsupported.add("anti-aliasing")
        if isinstance(module, Bottleneck) and module.conv1.out_channels != module.conv2.out_channels:
            unsupported.add("narrowed first convolutions")
        if path == "features.conv1":
            unsupported.add("a deep stem")
        if isinstance(module, nn.Conv2d) and max(module.dilation) > 1:
            unsupported.add("a dilated convolution")
        if isinstance(module, (nn.BatchNorm2d, BatchNormAct2d)) and module.eps != eps:
            unsupported.add(f"BatchNorm with eps {module.eps}")
        if isinstance(module, SelectAdaptivePool2d) and module.pool_type != "avg":
            unsupported.add(f"global {module.pool_type} pooling")
    if unsupported:
        raise UsageError(
            f"{name} has {', '.join(sorted(unsupported))}, which no family supports: {known} can be inflated."
        )
