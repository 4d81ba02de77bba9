"""Which parameters learn how fast, and which decay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from transfer3d.errors import UsageError, did_you_mean


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
    named = {_student_name(name): parameter for name, parameter in module.named_parameters()}
    _check_patterns(lr_scale, named.keys())
    depths = {} if layer_decay is None else layer_depths(module)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        scale = scale_of(name, lr_scale) * (layer_decay or 1.0) ** depths.get(name, 0)
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
    return _student_name(name).startswith("head.")


def layer_depths(module: nn.Module) -> dict[str, int]:
    """Returns for each parameter of a student's trunk the number of layers from its own to the head.

    The last layer of the trunk has 1; parameters outside of the trunk are not in the result. The layers are
    those of the student's `group_matcher`.

    Args:
        module: a student, or what holds one as `student`.

    Raises:
        UsageError: it is neither.
    """
    student: Any = getattr(module, "student", module)
    if not hasattr(student, "group_matcher"):
        raise UsageError(f"optimizer.layer_decay: {type(module).__name__} has no `student`, so no layers.")
    from timm.models import group_parameters

    numbers: Any = group_parameters(student, student.group_matcher(), reverse=True)
    trunk: dict[str, int] = {name: n for name, n in numbers.items() if name.startswith("trunk.")}
    return {name: max(trunk.values()) + 1 - number for name, number in trunk.items()}


def scale_of(name: str, lr_scale: Mapping[str, float]) -> float:
    """Returns the scale of one parameter: that of the longest name that fits, or 1."""
    fitting = [pattern for pattern in lr_scale if _fits(name, pattern)]
    return lr_scale[max(fitting, key=len)] if fitting else 1.0


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _student_name(name: str) -> str:
    """The parameter's name in the student itself, where an objective holds it as `student`."""
    return name.removeprefix("student.")


def _check_patterns(patterns: Iterable[str], names: Collection[str]) -> None:
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            modules = {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)}
            raise UsageError(
                f"optimizer.lr_scale: no part of the network is called '{pattern}'"
                f"{did_you_mean(pattern, sorted(modules))}. `transfer3d info` and state_dict show the names.",
            )
