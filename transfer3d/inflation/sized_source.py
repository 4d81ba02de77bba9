"""Reads a timm network that is built for images of one size, and begins with a patch embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import nn

from transfer3d.errors import UsageError
from transfer3d.models.trunks.timm_spec import SizedSpec
from transfer3d.nn.on_meta import on_meta
from transfer3d.weights.header import differences, shapes_of

Spec = TypeVar("Spec", bound=SizedSpec)


def read_sized(
    name: str, model: nn.Module, find_spec: Callable[[], Spec], build: Callable[..., nn.Module]
) -> tuple[Spec, dict[str, str]]:
    """Returns the spec and the module names, after comparing the tensors with those of the spec's network.

    Args:
        name: name of the network.
        model: the network.
        find_spec: returns its spec; may raise ValueError or TypeError.
        build: builds the network of a spec; may raise them too.

    Raises:
        UsageError: the network was built with arguments that a checkpoint cannot record.
    """
    net = cast(Any, model)
    try:
        spec = find_spec()
        with on_meta():
            expected = build(spec, num_classes=net.num_classes, in_chans=net.in_chans)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{name} cannot be inflated: {error}.") from error
    if mismatch := differences(shapes_of(expected.state_dict()), shapes_of(model.state_dict())):
        raise UsageError(
            f"{name} was built with arguments that a checkpoint does not record: tensors {mismatch}."
        )
    modules = {f"trunk.net.{path}".rstrip("."): path for path, _ in model.named_modules()}
    modules["trunk.net.patch_embed.proj.conv"] = modules.pop("trunk.net.patch_embed.proj")
    return spec, modules
