"""Limits of what a checkpoint's metadata may say, whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_CLASSES = 1_000_000
MOST_NUMBER = 1_000_000
"""Of a network's arguments: channels, widths, depths."""
MOST_CLIP = {"frames": 4096, "stride": 4096, "size": 8192, "units": 256}
DEEPEST = 32
LONGEST_NAME = 1000


def parse(text: str) -> Any:
    """Returns JSON's value.

    Raises:
        ValueError: it is not JSON, nests too deep, or holds numbers that are not finite.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON that nests too deep") from None
    if any(depth > DEEPEST for depth, _ in _leaves(value)):
        raise ValueError("JSON that nests too deep")
    return value


def check_model_args(model_args: Mapping[str, Any], tensors: int) -> None:
    """Raises ValueError for a network that no file of so many tensors can hold, or with absurd sizes."""
    for _, leaf in _leaves(model_args):
        if isinstance(leaf, int | float) and abs(leaf) > MOST_NUMBER:
            raise ValueError(f"model_args have the number {leaf:.3g}")
    spec = model_args.get("spec")
    depths = spec.get("depths") if isinstance(spec, Mapping) else None
    blocks = sum(depth for _, depth in _leaves(depths) if isinstance(depth, int))
    if blocks > tensors:
        raise ValueError(f"{blocks} blocks in {tensors} tensors")
    rate = model_args.get("drop_rate", 0.0)
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"drop_rate {rate!r} is not from 0 to below 1")


def check_classes(num_classes: int, class_names: Any) -> None:
    """Raises ValueError unless there is a name for each class, or none at all."""
    if not 0 <= num_classes <= MOST_CLASSES:
        raise ValueError(f"{num_classes} classes")
    if class_names is None:
        return
    if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
        raise ValueError("class names that are not a list of text")
    if len(class_names) != num_classes or max(map(len, class_names), default=0) > LONGEST_NAME:
        raise ValueError(f"{len(class_names)} class names, or one too long, for {num_classes} classes")


def check_clip(clip: Mapping[str, Any]) -> None:
    """Raises ValueError for a clip that no video has."""
    for name, most in MOST_CLIP.items():
        value = clip.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value > most:
            raise ValueError(f"clip {name}={value!r}: at most {most}")


def _leaves(value: Any) -> Iterator[tuple[int, Any]]:
    """Yields what is no list and no table, with the depth at which it is."""
    stack = [(1, value)]
    while stack:
        depth, found = stack.pop()
        if isinstance(found, Mapping):
            stack += [(depth + 1, inner) for inner in found.values()]
        elif isinstance(found, list | tuple):
            stack += [(depth + 1, inner) for inner in found]
        else:
            yield depth, found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"the number {name}")
