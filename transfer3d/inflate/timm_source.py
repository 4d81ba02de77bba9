"""Reading any convolutional network of timm, for the general inflation: see `models/trunks/timm3d.py`."""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from torch import nn

from transfer3d.errors import UsageError
from transfer3d.models.header import differences
from transfer3d.models.trunks.timm3d import TimmSpec


def read_timm(name: str, model: nn.Module) -> tuple[TimmSpec, dict[str, str], str]:
    """Returns shape, module names and classifier of a timm network.

    Raises:
        UsageError: its tensors are not those of timm's network of this name.
    """
    net = cast(Any, model)
    head = net.pretrained_cfg.get("classifier") or "fc"
    if not isinstance(head, str):
        raise UsageError("E242", f"{name} has several classifiers, {head}: no student has.")
    with torch.device("meta"):
        plain = timm.create_model(name, num_classes=0, in_chans=net.in_chans)
    wanted = {key: tuple(tensor.shape) for key, tensor in plain.state_dict().items()}
    found = {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if key in wanted or not key.startswith(f"{head}.")
    }
    if odd := differences(wanted, found):
        raise UsageError(
            "E242", f"{name} was built with arguments that its name does not tell: tensors {odd}."
        )
    modules = {}
    for path, module in model.named_modules():
        modules[f"trunk.net.{path}".rstrip(".")] = path
        if isinstance(module, nn.Conv2d):
            modules[f"trunk.net.{path}.conv"] = path
    return TimmSpec(architecture=name), modules, head
