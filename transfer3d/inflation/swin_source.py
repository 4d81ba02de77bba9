"""Reads a timm Swin transformer, for any image size: see `models/trunks/swin.py`."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from torch import nn

from transfer3d.errors import UsageError
from transfer3d.inflation.sized_source import read_sized
from transfer3d.inflation.vit_source import with_size
from transfer3d.models.trunks.swin import NETWORKS, build_swin, unsupported_swin
from transfer3d.models.trunks.timm_spec import SwinSpec
from transfer3d.nn.on_meta import on_meta


def is_swin(model: nn.Module) -> bool:
    """Whether a network attends within shifted windows, whether supported or not."""
    return isinstance(model, NETWORKS)


def read_swin(name: str, model: nn.Module) -> tuple[SwinSpec, dict[str, str], str]:
    """Returns the spec, the module names and the classifier of a Swin transformer.

    Raises:
        UsageError: the network was built with arguments that a checkpoint cannot record.
    """
    net = cast(Any, model)
    if fault := unsupported_swin(model):
        raise UsageError(f"{name} has {fault}, which no family supports.")
    known = SwinSpec.recordable()
    given = {key: _listed(value) for key, value in getattr(net, "_model_args", {}).items() if key in known}
    given.pop("window_size", None)
    size = int(net.patch_embed.img_size[0])

    def find_spec() -> SwinSpec:
        spec = SwinSpec(architecture=name, img_size=size, overrides=given)
        if _windows_of(spec) == windows(model):
            return spec
        return replace(spec, overrides={**given, "window_size": _listed(windows(model))})

    return *read_sized(name, model, find_spec, build_swin), "head.fc"


def windows(model: nn.Module) -> list[tuple[int, int]]:
    """Returns the height and width of each stage's windows."""
    return [tuple(stage.blocks[0].window_size) for stage in cast(Any, model).layers]


def _windows_of(spec: SwinSpec) -> list[tuple[int, int]] | None:
    """Returns the windows of a network, None if their number differs from the number of stages."""
    with on_meta(), suppress(ValueError):
        return windows(build_swin(spec))


def resized_swin(name: str, model: nn.Module, size: int) -> nn.Module:
    """Returns the network for another image size; windows larger than a feature map shrink to its size.

    Raises:
        UsageError: timm cannot resize the network.
    """
    kept = windows(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warning about timm's interpolation
        return with_size(name, model, size, window_size=kept[0] if len(set(kept)) == 1 else kept)


def resampled_windows(before: nn.Module, after: nn.Module) -> dict[str, str]:
    """Returns a note for each tensor that `resized_swin` changed."""
    old, new = before.state_dict(), after.state_dict()
    changed = [name for name in new if new[name].shape != old[name].shape]
    sides = [
        dict(enumerate("x".join(map(str, window)) for window in windows(net))) for net in (before, after)
    ]
    stages = {name: int(name.split(".")[1]) for name in changed}
    return {name: f"windows {sides[0][n]} to {sides[1][n]}, as timm" for name, n in stages.items()}


def _listed(value: Any) -> Any:
    """Converts tuples to lists, as in a file."""
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value
