"""Reads any convolutional network of timm, for generic inflation: see `models/trunks/timm3d.py`."""

from __future__ import annotations

import inspect
from typing import Any, cast

import timm
from torch import nn

from transfer3d.errors import UsageError
from transfer3d.models.trunks.timm_spec import TimmSpec
from transfer3d.nn.on_meta import on_meta
from transfer3d.weights.header import differences, shapes_of

FIRST_GUESS = "fc"
"""Name of the classifier if the network does not have one."""


def read_timm(name: str, model: nn.Module) -> tuple[TimmSpec, dict[str, str], tuple[str, ...]]:
    """Returns the spec, the module names and the classifier's layers of a timm network.

    Raises:
        UsageError: its tensors differ from those of timm's network of this name, or it does not end in pooled
            features and a classifier.
    """
    net = cast(Any, model)
    pool = getattr(net, "forward_head", None)
    if pool is None or "pre_logits" not in inspect.signature(pool).parameters:
        raise UsageError(f"{name} has no pooled features (no `forward_head(..., pre_logits)`).")
    with on_meta():
        whole = timm.create_model(name, num_classes=net.num_classes, in_chans=net.in_chans)
        headless = timm.create_model(name, num_classes=0, in_chans=net.in_chans)
    shapes = shapes_of(model.state_dict())
    if mismatch := differences(shapes_of(whole.state_dict()), shapes):
        raise UsageError(f"{name} was built with arguments that its name does not show: tensors {mismatch}.")
    rest = shapes_of(headless.state_dict())
    if mismatch := differences(rest, {key: shape for key, shape in shapes.items() if key in rest}):
        raise UsageError(f"{name} without its classifier is another network: {mismatch}.")
    classifier = [key.rpartition(".")[0] for key in shapes if key not in rest]
    modules = {}
    for path, module in model.named_modules():
        modules[f"trunk.net.{path}".rstrip(".")] = path
        if isinstance(module, nn.Conv2d):
            modules[f"trunk.net.{path}.conv"] = path
    return TimmSpec(architecture=name), modules, tuple(dict.fromkeys(classifier)) or (FIRST_GUESS,)
