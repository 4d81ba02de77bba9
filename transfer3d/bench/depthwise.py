"""Depthwise convolutions with their gradients, and training steps of such networks, against torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.bench.case import Case, Comparison, relative_difference
from transfer3d.bench.networks import training_step
from transfer3d.bench.paired import Run
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.layout import Triple
from transfer3d.models.trunks.timm3d import Timm3d
from transfer3d.models.trunks.timm_spec import TimmSpec
from transfer3d.nn.depthwise import Depthwise, convolution
from transfer3d.nn.memory_format import to_channels_last

LAYERS: dict[tuple[int, ...], Triple] = {(4, 240, 8, 14, 14): (3, 5, 5), (4, 96, 8, 28, 28): (3, 3, 3)}
CLIPS = (4, 3, 8, 112, 112)
NETWORKS = {"tf_efficientnet_lite0": 4.0, "mobilenetv3_large_100": 3.5, "convnext_tiny": 3.0}
"""Networks, with the speed expected relative to torch."""
TORCH = "torch's gradients"


def depthwise_cases() -> Iterator[Case]:
    """Yields the cases."""
    for shape, kernel in LAYERS.items():
        yield _layer(shape, kernel)
    for name, at_least in NETWORKS.items():
        yield _network(name, at_least)


def _by_torch(run: Run) -> Run:
    """Returns the function with torch's convolutions instead of ours."""

    def plain(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        apply: Any = F.conv2d if weight.ndim == 4 else F.conv3d
        return apply(x, weight, bias, *geometry, len(weight))

    def theirs() -> Any:
        with patch.object(Depthwise, "apply", plain):
            return run()

    return theirs


def _layer(shape: tuple[int, ...], kernel: Triple) -> Case:
    def build(device: torch.device) -> Comparison:
        random = torch.Generator(device).manual_seed(0)
        wide = (
            torch.randn(size, device=device, generator=random) for size in (shape, (shape[1], 1, *kernel))
        )
        x, weight = (
            tensor.bfloat16().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
            for tensor in wide
        )
        padding = tuple(size // 2 for size in kernel)

        def ours() -> Tensor:
            y = convolution(x, weight, None, (1, 1, 1), padding, (1, 1, 1), len(weight))
            return torch.cat(
                [g.flatten().float() for g in torch.autograd.grad(y, (x, weight), torch.ones_like(y))]
            )

        theirs = _by_torch(ours)
        return Comparison(
            ours=ours, baseline=theirs, difference=lambda: relative_difference(ours(), theirs())
        )

    name = f"depthwise {'x'.join(map(str, kernel))}, {'x'.join(map(str, shape))}, bf16"
    return Case(name=name, phase="gradients", ours="own", baseline=TORCH, at_least=6.0, build=build)


class _Classifier(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.trunk = Timm3d(TimmSpec(architecture=name))
        self.fc = nn.Linear(self.trunk.num_features, CLIPS[0])

    def forward(self, clips: Tensor) -> Tensor:
        return self.fc(self.trunk.pool_features(self.trunk(clips)))


def _network(name: str, at_least: float) -> Case:
    def build(device: torch.device) -> Comparison:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = _Classifier(name).to(device)
        to_channels_last(net)
        keep_freed_memory()
        clips = torch.randn(CLIPS, device=device, generator=torch.Generator(device).manual_seed(0))
        step = training_step(net, clips.contiguous(memory_format=torch.channels_last_3d), bf16=True)
        return Comparison(ours=step, baseline=_by_torch(step))

    title = f"i3d of {name}, {CLIPS[0]} clips of {'x'.join(map(str, CLIPS[2:]))}"
    return Case(name=title, phase="step", ours="bf16", baseline=TORCH, at_least=at_least, build=build)
