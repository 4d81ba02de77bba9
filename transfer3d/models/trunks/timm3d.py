"""Any convolutional network of timm over clips: its spatial convolutions become 3D by rule.

Rule: a convolution whose kernel is larger than its stride sees as many frames as its stage
says; everything else stays as it is, 1 wide in time. A stage is the power of two by which a layer's output is
smaller than the input. As in SlowFast's slow path (arXiv:1812.03982, table 1) the late stages see time, and T
is never strided.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm import layers as timm_layers
from torch import Tensor, nn

from transfer3d.models.trunks.timm_spec import TimmSpec
from transfer3d.models.trunks.timm_trunk import TimmTrunk, channels_first, create_timm
from transfer3d.nn.depthwise2d import give_fast_gradients
from transfer3d.nn.failing_module import failing_module
from transfer3d.nn.framewise import TemporalConv
from transfer3d.nn.on_meta import on_meta
from transfer3d.nn.standardised import STANDARDISED

DEPTHS = (1, 1, 1, 1, 3, 3)
"""Frames seen at 1, 1/2, 1/4, 1/8, 1/16 and 1/32 (or less) of the input's size."""

MIXER = re.compile("Att|Mixer|LSTM|SSD|SpatialGating")
"""Names of timm's spatial mixers without a 3D form, such as attention and MLP mixers."""

Conv2dSame: Any = timm_layers.Conv2dSame  # pyright: ignore[reportPrivateImportUsage]
INFLATABLE: tuple[type[nn.Conv2d], ...] = (nn.Conv2d, Conv2dSame, *STANDARDISED)


class Timm3d(TimmTrunk):
    """A convolutional timm network over clips.

    Args:
        spec: names the 2D network.
        in_chans: channels of a frame.
        depths: see `DEPTHS`.

    Raises:
        ValueError: no convolution is eligible for inflation, or an eligible one has no 3D form.
    """

    def __init__(self, spec: TimmSpec, *, in_chans: int = 3, depths: Sequence[int] = DEPTHS) -> None:
        if len(depths) != len(DEPTHS) or min(depths) < 1:
            raise ValueError(f"depths={list(depths)}: {len(DEPTHS)} numbers from 1")
        super().__init__(create_timm(spec.architecture, num_classes=0, in_chans=in_chans))
        stages = convolution_stages(spec.architecture, in_chans)
        chosen = {name: depths[stage] for name, stage in stages.items() if depths[stage] > 1}
        if not chosen and max(depths) > 1:
            raise ValueError(
                f"{spec.architecture} has no spatial convolution in the stages that see time "
                f"(depths {list(depths)} at 1, 1/2, 1/4, 1/8, 1/16, 1/32 of the input's size)"
                + _mixers(self.net)
            )
        for name, depth in chosen.items():
            self._inflate(name, depth, spec.architecture)
        give_fast_gradients(self.net, Conv2dSame)

    def _inflate(self, name: str, depth: int, architecture: str) -> None:
        conv = self.net.get_submodule(name)
        if type(conv) not in INFLATABLE:
            raise ValueError(f"{architecture} has a {type(conv).__name__} ('{name}'), which has no 3D form")
        parent, _, child = name.rpartition(".")
        try:
            same = isinstance(conv, Conv2dSame) or getattr(conv, "same_pad", False)
            temporal = TemporalConv(conv, depth, self.count, same=same)
        except ValueError as error:
            raise ValueError(f"{architecture}, '{name}': {error}") from error
        setattr(self.net.get_submodule(parent), child, temporal)


def _mixers(net: nn.Module) -> str:
    """Names the network's spatial mixers without a 3D form."""
    kinds = sorted({name for module in net.modules() if MIXER.search(name := type(module).__name__)})
    return f"; {', '.join(kinds)} {'has' if len(kinds) == 1 else 'have'} no 3D form" if kinds else ""


def convolution_stages(architecture: str, in_chans: int) -> dict[str, int]:
    """Returns the stage of every spatial convolution of a timm network, by name.

    Raises:
        ValueError: the network does not map an image to feature maps.
    """
    with on_meta():
        net = create_timm(architecture, num_classes=0, in_chans=in_chans).eval()
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
            if getattr(net, "output_fmt", None) == "NHWC":
                maps = channels_first(maps, True)
    except Exception as error:  # other people's code: it may raise anything
        raise ValueError(f"{architecture} cannot be followed: {failing_module(error, net)}") from error
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
        raise ValueError(f"{architecture} gives no feature maps B D H W{_mixers(net)}")
    return stages
