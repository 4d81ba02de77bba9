"""The state of a run as tensors and JSON, without pickles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, count
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from transfer3d.text import problem
from transfer3d.weights.state_file import is_finite

ADAM_STEPS, ADAM_MEANS = "step", ("exp_avg", "exp_avg_sq")
SGD_MEANS = ("momentum_buffer",)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Group(_Strict):
    """A parameter group; its settings are in the configuration."""

    params: list[int]


class _OptimizerState(_Strict):
    param_groups: list[_Group]
    scalars: dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], dict[str, int | float | None]]


class RunState(_Strict):
    """JSON part of a checkpoint, which is untrusted.

    Attributes:
        step: number of completed steps.
        scores: scores of all validations.
        metrics: latest metrics.
        identity: digests of what the run was started on, by name.
        processes: number of processes.
        optimizer: the optimiser's numbers that are not tensors.
    """

    step: Annotated[int, Field(ge=0)]
    scores: list[float]
    metrics: dict[str, float]
    identity: dict[str, str]
    processes: Annotated[int, Field(ge=1)]
    optimizer: _OptimizerState


def read_state(state: Mapping[str, Any], *, steps: int) -> RunState:
    """Returns the JSON part of a checkpoint.

    Args:
        state: unchecked data.
        steps: number of steps of the whole run.

    Raises:
        ValueError: a part of it cannot belong to this run.
    """
    try:
        read = RunState.model_validate(state)
    except ValidationError as error:
        raise ValueError(problem(error.errors()[0])) from None
    if read.step > steps:
        raise ValueError(f"step {read.step} of {steps}")
    return read


def pack_state(
    trainable: nn.Module, optimizer: Optimizer, average: ModelEmaV3 | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Splits weights, their average and the optimiser's state into named tensors and a JSON-able rest."""
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in trainable.state_dict().items()}
    if average is not None:
        averaged = average.module.state_dict()
        tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in averaged.items()}
    groups = _saved_groups(trainable, optimizer)
    scalars: dict[str, dict[str, Any]] = {}
    for number, parameter in enumerate(chain.from_iterable(groups)):
        for slot, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{slot}"] = value.contiguous()
            else:
                scalars.setdefault(str(number), {})[slot] = value
    return tensors, {"optimizer": {"param_groups": _numbered(groups), "scalars": scalars}}


def unpack_state(
    tensors: dict[str, Tensor],
    state: RunState,
    trainable: nn.Module,
    optimizer: Optimizer,
    average: ModelEmaV3 | None = None,
) -> None:
    """Restores what `pack_state` returned. Keeps the optimiser's own learning rates and weight decays.

    Raises:
        ValueError: tensors or optimiser are those of another run, or not finite.
        RuntimeError: the network is another one.
    """
    if bad := [name for name, tensor in tensors.items() if not is_finite(tensor)]:
        raise ValueError(f"{bad[0]} is not finite")
    slots: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in state.optimizer.scalars.items()
    }
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"optimizer\.([0-9]{1,9})\.(\w+)", name):
            slots.setdefault(int(match[1]), {})[match[2]] = tensor
    groups = _saved_groups(trainable, optimizer)
    _check_optimizer(slots, state, optimizer, groups)
    tensors = _current_names(tensors, trainable)
    trainable.load_state_dict(_under("model.", tensors), strict=True)
    if average is not None:
        average.module.load_state_dict(_under("average.", tensors), strict=True)
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    own = {parameter: number for number, parameter in enumerate(parameters)}
    numbers = [own[parameter] for parameter in chain.from_iterable(groups)]
    optimizer.load_state_dict(
        {
            "state": {numbers[number]: values for number, values in slots.items()},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def _saved_groups(trainable: nn.Module, optimizer: Optimizer) -> list[list[nn.Parameter]]:
    """Returns the optimiser's parameters in the groups and the order of a checkpoint.

    They are grouped by scale and number of dimensions, not by what decays: checkpoints from when all weights
    of several dimensions decayed are read too.
    """
    scales = {weight: group["lr_scale"] for group in optimizer.param_groups for weight in group["params"]}
    decays = optimizer.defaults["weight_decay"] > 0
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in trainable.parameters():
        if parameter in scales:
            groups.setdefault((scales[parameter], decays and parameter.ndim > 1), []).append(parameter)
    return list(groups.values())


def _numbered(groups: list[list[nn.Parameter]]) -> list[dict[str, list[int]]]:
    """Returns groups as an optimiser's state has them: parameters are numbered from group to group."""
    numbers = count()
    return [{"params": [next(numbers) for _ in group]} for group in groups]


def _check_optimizer(
    slots: Mapping[int, Mapping[str, Any]],
    state: RunState,
    optimizer: Optimizer,
    groups: list[list[nn.Parameter]],
) -> None:
    """Raises ValueError if the optimiser's state does not match its parameters.

    An optimiser loads any state, and would fail in its first step.
    """
    if [group.model_dump() for group in state.optimizer.param_groups] != _numbered(groups):
        raise ValueError("another optimiser: its groups of parameters differ")
    parameters = list(chain.from_iterable(groups))
    counts, means = ((), SGD_MEANS) if isinstance(optimizer, SGD) else ((ADAM_STEPS,), ADAM_MEANS)
    for number, values in slots.items():
        if number >= len(parameters) or set(values) != {*counts, *means}:
            raise ValueError(f"another optimiser: parameter {number} has {', '.join(sorted(values))}")
        for name in counts:
            made = float(values[name] or 0)
            if not 0 < made <= state.step:
                raise ValueError(f"parameter {number} has made {made:g} steps of {state.step}")
        for name in means:
            value, shape = values[name], parameters[number].shape
            is_unset = value is None and isinstance(optimizer, SGD)
            if not is_unset and (not isinstance(value, Tensor) or value.shape != shape):
                raise ValueError(f"{name} of parameter {number} has not its shape, {list(shape)}")
            if isinstance(value, Tensor) and not value.is_floating_point():
                raise ValueError(f"{name} of parameter {number} is {value.dtype}")


def _current_names(tensors: dict[str, Tensor], trainable: nn.Module) -> dict[str, Tensor]:
    """Renames the tensors of runs of version 0.1, in which the student itself was the objective."""
    if f"model.{next(iter(trainable.state_dict()))}" in tensors:
        return tensors
    return {re.sub(r"^(model|average)\.", r"\1.student.", name): tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
