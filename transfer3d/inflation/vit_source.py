"""Reads a vision transformer of timm, for any image size: see `models/trunks/vit.py`."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import nn

from transfer3d.errors import UsageError
from transfer3d.inflation.sized_source import read_sized
from transfer3d.models.trunks.timm_spec import ViTSpec
from transfer3d.models.trunks.vit import build_vit, unsupported


def is_vit(model: nn.Module) -> bool:
    """Whether a network is a transformer over patches, supported or not."""
    return all(hasattr(model, name) for name in ("patch_embed", "blocks", "num_prefix_tokens"))


def read_vit(name: str, model: nn.Module) -> tuple[ViTSpec, dict[str, str], str]:
    """Returns spec, module names and classifier of a vision transformer.

    Raises:
        UsageError: it was built with arguments that a checkpoint cannot record.
    """
    net = cast(Any, model)
    known = ViTSpec.recordable()
    given = {key: value for key, value in getattr(net, "_model_args", {}).items() if key in known}
    size = int(net.patch_embed.img_size[0])

    def find_spec() -> ViTSpec:
        return ViTSpec(architecture=name, img_size=size, overrides=given)

    return *read_sized(name, model, find_spec, build_vit), "head"


def check_vit(name: str, model: nn.Module) -> None:
    """Raises UsageError for a vision transformer that cannot be inflated."""
    if is_vit(model) and (fault := unsupported(model)):
        raise UsageError(f"{name} has {fault}, which no family supports.")


def with_size(name: str, model: nn.Module, size: int, **windows: Any) -> nn.Module:
    """Returns the network for images of another size, with positions resampled by timm.

    Args:
        name: name of the network.
        model: is not changed.
        size: H and W.
        **windows: further arguments of timm's `set_input_size`.

    Raises:
        UsageError: timm cannot resample its positions.
    """
    net = cast(Any, model)
    if net.patch_embed.img_size == (size, size):
        return model
    net = copy.deepcopy(net)
    try:
        net.set_input_size(img_size=(size, size), **windows)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(f"{name} cannot take images of {size}x{size}: {error}.") from error
    return net


def resampled_tensors(before: nn.Module, after: nn.Module) -> dict[str, str]:
    """Returns a note for each tensor that `with_size` changed."""
    if before is after:
        return {}
    grids = ["x".join(map(str, cast(Any, net).patch_embed.grid_size)) for net in (before, after)]
    old, new = before.state_dict(), after.state_dict()
    return {
        name: f"positions {grids[0]} to {grids[1]}, as timm"
        for name in new
        if new[name].shape != old[name].shape or not torch.equal(new[name], old[name])
    }
