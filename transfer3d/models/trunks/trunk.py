"""What all trunks share: named steps that define layers, parameter groups and activation checkpointing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from transfer3d.errors import UsageError
from transfer3d.nn.units import AcrossUnits

CLIP_NDIM = 5  # B C T H W

Step = tuple[str, nn.Module]


def run(x: Tensor, steps: Iterable[Step], units: int = 1) -> Tensor:
    """Runs named modules in order.

    Args:
        x: `B*U C T H W`.
        steps: an `AcrossUnits` among them also gets `units`.
        units: U; the units of a video follow each other in the batch.
    """
    for _, module in steps:
        x = module(x, units) if isinstance(module, AcrossUnits) else module(x)
    return x


class Stage(AcrossUnits):
    """Blocks by number; the layer that a family appends to block n is `after<n>`."""

    def forward(self, x: Tensor, units: int = 1) -> Tensor:
        """`B*U C T H W` to `B*U C' T' H' W'`."""
        return run(x, self.named_children(), units)


class Trunk(nn.Module):
    """A network from clips `N C T H W` to feature maps `N D T' H' W'`: its children, in order.

    Attributes:
        num_features: D, size of the pooled feature.
        stages: the layers that `VideoStudent.feature_info` lists, in order.
        grad_checkpointing: whether the activations inside of a step are recomputed in the backward pass.
        pools_by_average: whether `pool_features` is the mean over T', H' and W'.
        largest_reduction: every stride divides sizes that are multiples of it.
        gives_tokens: whether the last maps are tokens, `B D T' L 1`, which have no spatial layout.
        exports_any_length: whether an exported graph takes clips of any length if no layer strides T.
    """

    num_features: int
    stages: tuple[str, ...] = ()
    grad_checkpointing: bool = False
    pools_by_average: bool = True
    largest_reduction: int = 32
    gives_tokens: bool = False
    exports_any_length: bool = True

    def parts(self) -> list[Step]:
        """Returns the children in order: `run(clips, parts, units)` is `forward(clips, units)`."""
        return list(self.named_children())

    def steps(self) -> list[Step]:
        """Returns `parts` block by block: each child of a stage or of an `nn.Sequential` is a step."""
        steps: list[Step] = []
        for name, module in self.parts():
            if isinstance(module, nn.Sequential | Stage):
                steps += [(f"{name}.{part}", layer) for part, layer in module.named_children()]
            else:
                steps.append((name, module))
        return steps

    def layers(self) -> dict[str, tuple[int, nn.Module]]:
        """Returns, for each name of a layer, the index of its last step and the module whose output it is.

        `res3` is a layer as `res3.0` is: its output is that of its last block.
        """
        layers: dict[str, tuple[int, nn.Module]] = {}
        for index, (name, module) in enumerate(self.steps()):
            parent = name.rpartition(".")[0]
            layers[name] = (index, module)
            if parent and not isinstance(self.get_submodule(parent), nn.ModuleList):
                layers.pop(parent, None)  # so that a stage follows its blocks
                layers[parent] = (index, module)
        return layers

    def forward(self, clips: Tensor, units: int = 1) -> Tensor:
        """`N C T H W` to feature maps `N D T' H' W'`; the `units` units of a video follow each other in N."""
        for _, module in self.steps() if self.grad_checkpointing else self.parts():
            clips = self._apply_step(module, clips, units)
        return clips

    def forward_layers(
        self, clips: Tensor, units: int, names: Collection[str], *, stop_early: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the last feature maps, and those of the layers that are named.

        Args:
            clips: as for `forward`.
            units: as for `forward`.
            names: keys of `layers`.
            stop_early: stop at the last of these layers.
        """
        steps, layers = self.steps(), self.layers()
        ends = {name: layers[name][0] for name in names}
        if stop_early and ends:
            steps = steps[: max(ends.values()) + 1]
        maps: dict[str, Tensor] = {}
        for index, (_, module) in enumerate(steps):
            clips = self._apply_step(module, clips, units)
            maps |= {name: clips for name, end in ends.items() if end == index}
        return clips, maps

    def patch_maps(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Returns the last maps as `B D T' H' W'`: of token trunks the patch tokens only.

        Args:
            maps: of the last layer.
            height: H' of the patches.
            width: W'.
        """
        return maps

    def pool_features(self, maps: Tensor) -> Tensor:
        """Pools feature maps: `B D T' H' W'` to `B D`."""
        return maps.mean((2, 3, 4))

    def compiled_parts(self) -> list[nn.Module]:
        """Returns the modules that torch.compile compiles, each by itself."""
        return [self]

    def prune(self, stage: str) -> None:
        """Removes all layers after a stage; `forward` then returns its maps."""
        self.stages = self.stages[: self.stages.index(stage) + 1]
        for name, _ in self.steps()[self.layers()[stage][0] + 1 :]:
            parent, _, child = name.rpartition(".")
            delattr(self.get_submodule(parent), child)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Returns for each layer, in order, the regular expression of its parameters' names in the trunk.

        Args:
            coarse: layers are stages instead of blocks.
        """
        layers = dict.fromkeys(name.partition(".")[0] if coarse else name for name, _ in self.steps())
        return {layer: rf"{re.escape(layer)}\." for layer in layers}

    def no_weight_decay(self) -> set[str]:
        """Returns the names of weights that should not decay, as in timm."""
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Sets `grad_checkpointing`."""
        self.grad_checkpointing = enable

    def _apply_step(self, module: nn.Module, x: Tensor, units: int) -> Tensor:
        inputs = (x, units) if isinstance(module, AcrossUnits) else (x,)
        return recomputed(module, *inputs) if self.grad_checkpointing else module(*inputs)


class ModuleTrunk(Trunk):
    """Any module as a trunk, in one step.

    Args:
        net: from clips `B C T H W` to feature maps `B D T' H' W'`, with D as its `num_features`.

    Raises:
        ValueError: it has no `num_features`.
    """

    stages = ("net",)
    largest_reduction = 1

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        num_features: Any = getattr(net, "num_features", None)
        if not isinstance(num_features, int):
            raise ValueError(f"{type(net).__name__} needs `num_features`, the channels of its feature maps")
        self.num_features = num_features
        self.net = net

    def _apply_step(self, module: nn.Module, x: Tensor, units: int) -> Tensor:
        maps = super()._apply_step(module, x, units)
        if maps.ndim != CLIP_NDIM or maps.shape[1] != self.num_features:
            raise UsageError(
                f"{type(module).__name__} returned a tensor of shape {tuple(maps.shape)}: "
                f"return feature maps B D T' H' W' with D = num_features = {self.num_features}."
            )
        return maps


def recomputed(module: nn.Module, *inputs: Any) -> Tensor:
    """Applies a module; its activations are not kept, but computed again in the backward pass.

    Gradients, random numbers and BatchNorm statistics are those of the module itself.
    """
    if not torch.is_grad_enabled():
        return module(*inputs)
    contexts = partial(_checkpoint_contexts, module)
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)  # pyright: ignore[reportReturnType]


def _checkpoint_contexts(module: nn.Module) -> tuple[Any, Any]:
    """Returns contexts for the forward pass and for its repetition in the backward pass."""
    return nullcontext(), fixed_statistics(module)


@contextmanager
def fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Keeps the running statistics of every BatchNorm while a forward pass is repeated."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [
        None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0  # the share of the new batch
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)
