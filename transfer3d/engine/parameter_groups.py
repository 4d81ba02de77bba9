"""Which parameters learn how fast, and which decay."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from transfer3d.errors import UsageError, did_you_mean

LAYER = re.compile(r"trunk\.\w+(\.(after)?\d+)?")


def parameter_groups(
    module: nn.Module, *, lr_scale: Mapping[str, float], layer_decay: float | None, weight_decay: float
) -> list[dict[str, Any]]:
    """Returns groups for an optimiser, each with `params`, `lr_scale` and `weight_decay`.

    A parameter whose scale is 0 gets no gradient from then on, and is in no group. Biases and normalisation
    do not decay.

    Args:
        module: a student, or what holds one as `student`.
        lr_scale: see `OptimizerConfig.lr_scale`.
        layer_decay: see `OptimizerConfig.layer_decay`.
        weight_decay: of weights.

    Raises:
        UsageError: a name of `lr_scale` fits no parameter, or nothing learns.
    """
    named = {_own_name(name): parameter for name, parameter in module.named_parameters()}
    _refuse_strangers(lr_scale, named.keys())
    depths = layer_depths(named.keys())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        scale = scale_of(name, lr_scale) * (layer_decay or 1.0) ** depths[name]
        if scale == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((scale, decay), []).append(parameter)
    if not groups:
        raise UsageError("optimizer.lr_scale: nothing is left that learns. Leave a part at more than 0.")
    return [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the head; the rest is the trunk."""
    return _own_name(name).startswith("head.")


def layer_depths(names: Collection[str]) -> dict[str, int]:
    """Returns for each parameter of a student how many layers lie between its own and the head, plus one.

    The head, and what stands outside of the trunk, has 0. A layer is a block, a stem's convolution, or what
    stands alone; a DenseNet's transition counts to the block that it follows.
    """
    layers: dict[str, str] = {}
    for name in names:
        if found := LAYER.match(name.replace("transitions", "blocks")):
            layers[name] = found[0]
    order = {layer: number for number, layer in enumerate(dict.fromkeys(layers.values()))}
    return {name: len(order) - order[layers[name]] if name in layers else 0 for name in names}


def scale_of(name: str, lr_scale: Mapping[str, float]) -> float:
    """Returns the scale of one parameter: that of the longest name that fits, or 1."""
    fitting = [pattern for pattern in lr_scale if _fits(name, pattern)]
    return lr_scale[max(fitting, key=len)] if fitting else 1.0


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _own_name(name: str) -> str:
    """The parameter's name in the student itself, where an objective holds it as `student`."""
    return name.removeprefix("student.")


def _refuse_strangers(patterns: Iterable[str], names: Collection[str]) -> None:
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            modules = {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)}
            raise UsageError(
                f"optimizer.lr_scale: no part of the network is called '{pattern}'"
                f"{did_you_mean(pattern, sorted(modules))}. `transfer3d info` and state_dict show the names.",
            )
