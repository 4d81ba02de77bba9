"""Groups parameters by learning-rate scale and weight decay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from transfer3d.errors import UsageError, did_you_mean


def parameter_groups(
    module: nn.Module, *, lr_scale: Mapping[str, float], layer_decay: float | None, weight_decay: float
) -> list[dict[str, Any]]:
    """Returns groups for an optimiser, each with `params`, `lr_scale` and `weight_decay`.

    A parameter with scale 0 is frozen and in no group. Biases, normalisation layers and what the network's
    `no_weight_decay()` names, as in timm, have no weight decay.

    Args:
        module: a student, or a module that has one as `student`.
        lr_scale: see `OptimizerConfig.lr_scale`.
        layer_decay: see `OptimizerConfig.layer_decay`.
        weight_decay: weight decay of weights.

    Raises:
        UsageError: a name in `lr_scale` matches no parameter, or no parameter is left to train.
    """
    named = {_student_name(name): parameter for name, parameter in module.named_parameters()}
    _check_patterns(lr_scale, named.keys())
    depths = {} if layer_decay is None else layer_depths(module)
    exempt = {_student_name(pattern) for pattern in _without_decay(module)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        scale = scale_of(name, lr_scale) * (layer_decay or 1.0) ** depths.get(name, 0)
        if scale == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in exempt)
            decay = weight_decay if decays else 0.0
            groups.setdefault((scale, decay), []).append(parameter)
    if not groups:
        raise UsageError("optimizer.lr_scale: no parameter is left to train. Set a part's scale above 0.")
    return [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the head; the rest is the trunk."""
    return _student_name(name).startswith("head.")


def layer_depths(module: nn.Module) -> dict[str, int]:
    """Returns for each parameter of a student's trunk its distance from the head, in layers.

    The last layer of the trunk has 1; parameters outside the trunk are omitted. The layers are those of the
    student's `group_matcher`.

    Args:
        module: a student, or a module that has one as `student`.

    Raises:
        UsageError: it is neither.
    """
    student: Any = getattr(module, "student", module)
    if not hasattr(student, "group_matcher"):
        raise UsageError(
            f"optimizer.layer_decay: {type(module).__name__} has no `student`, whose layers it could use."
        )
    from timm.models import group_parameters

    numbers: Any = group_parameters(student, student.group_matcher(), reverse=True)
    trunk: dict[str, int] = {name: n for name, n in numbers.items() if name.startswith("trunk.")}
    return {name: max(trunk.values()) + 1 - number for name, number in trunk.items()}


def scale_of(name: str, lr_scale: Mapping[str, float]) -> float:
    """Returns the scale of one parameter: that of the longest matching name, or 1."""
    fitting = [pattern for pattern in lr_scale if _fits(name, pattern)]
    return lr_scale[max(fitting, key=len)] if fitting else 1.0


def _without_decay(module: nn.Module, prefix: str = "") -> set[str]:
    """Returns what the outermost modules that have `no_weight_decay()` name: timm's are patterns."""
    listed: Callable[[], Iterable[str]] | None = getattr(module, "no_weight_decay", None)
    if listed is not None:
        return {f"{prefix}{pattern}" for pattern in listed()}
    parts = module.named_children()
    return {pattern for name, part in parts for pattern in _without_decay(part, f"{prefix}{name}.")}


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _student_name(name: str) -> str:
    """Returns the parameter's name within the student, without an objective's `student.` prefix."""
    return name.removeprefix("student.")


def _check_patterns(patterns: Iterable[str], names: Collection[str]) -> None:
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            modules = {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)}
            raise UsageError(
                f"optimizer.lr_scale: no part of the network is called '{pattern}'"
                f"{did_you_mean(pattern, sorted(modules))}. `transfer3d info` and state_dict show the names."
            )
