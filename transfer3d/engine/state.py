"""The state of a run as tensors and JSON: no pickles."""

from __future__ import annotations

import re
from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer


def pack_state(
    trainable: nn.Module, optimizer: Optimizer, average: ModelEmaV3 | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Splits weights, their average and the optimiser's state into tensors by name and a JSON-able rest."""
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in trainable.state_dict().items()}
    if average is not None:
        averaged = average.module.state_dict()
        tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in averaged.items()}
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for number, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{slot}"] = value.contiguous()
            else:
                scalars.setdefault(str(number), {})[slot] = value
    return tensors, {"optimizer": {"param_groups": state["param_groups"], "scalars": scalars}}


def unpack_state(
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    trainable: nn.Module,
    optimizer: Optimizer,
    average: ModelEmaV3 | None = None,
) -> None:
    """Restores what `pack_state` returned."""
    tensors = _current_names(tensors, trainable)
    trainable.load_state_dict(_under("model.", tensors), strict=True)
    if average is not None:
        average.module.load_state_dict(_under("average.", tensors), strict=True)
    packed = state["optimizer"]
    slots: dict[int, dict[str, Any]] = {int(n): dict(values) for n, values in packed["scalars"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, slot = name.split(".", 2)
            slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": packed["param_groups"]})


def _current_names(tensors: dict[str, Tensor], trainable: nn.Module) -> dict[str, Tensor]:
    """Renames the tensors of runs of version 0.1, whose classification objective was the student itself."""
    if f"model.{next(iter(trainable.state_dict()))}" in tensors:
        return tensors
    return {re.sub(r"^(model|average)\.", r"\1.student.", name): tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
