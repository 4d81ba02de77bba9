"""Limits of what a checkpoint's metadata may say, whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transfer3d.files import parse_json

MOST_CLASSES = 1_000_000
MOST_NUMBER = 1_000_000
"""Of a network's arguments: channels, widths, depths."""
MOST_CLIP = {"frames": 4096, "stride": 4096, "size": 8192, "crop": 16384, "units": 256}
DEEPEST = 32
LONGEST_NAME = 1000


def parse(text: str) -> Any:
    """Returns JSON's value.

    Raises:
        ValueError: it is not JSON, nests too deep, or holds numbers that are not finite.
    """
    value = parse_json(text, parse_constant=_refuse_constant)
    if any(depth > DEEPEST for depth, _ in _values(value)):
        raise ValueError("it nests too deep")
    return value


def check_model_args(model_args: Mapping[str, Any], tensors: int) -> None:
    """Raises ValueError for a network that no file of so many tensors can hold, or with absurd sizes."""
    for _, number in _values(model_args):
        if isinstance(number, int | float) and abs(number) > MOST_NUMBER:
            raise ValueError(f"model_args have the number {number:.3g}")
    spec = model_args.get("spec")
    depths = [model_args.get("encoder_depth")]
    if isinstance(spec, Mapping):
        overrides = spec.get("overrides")
        depths += [spec.get("depths"), overrides.get("depth") if isinstance(overrides, Mapping) else None]
    blocks = sum(depth for _, depth in _values(depths) if isinstance(depth, int))
    if blocks > tensors:
        raise ValueError(f"{blocks} blocks in {tensors} tensors")
    rate = model_args.get("drop_rate", 0.0)
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"drop_rate {rate!r} is not from 0 to below 1")


def check_classes(num_classes: Any, class_names: Any) -> None:
    """Raises ValueError unless there is a name for each class, or none at all."""
    if not _is_whole_number(num_classes) or not 0 <= num_classes <= MOST_CLASSES:
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
        if not all(_is_whole_number(number) and number <= most for number in _numbers(value)):
            raise ValueError(f"clip {name}={value!r}: at most {most}")


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value: Any) -> Sequence[Any]:
    """Returns the two of a size [H, W], or the one."""
    return value if isinstance(value, list) and len(value) == 2 else [value]


def _values(value: Any) -> Iterator[tuple[int, Any]]:
    """Yields a JSON value and all within it, with the depth of each."""
    stack = [(1, value)]
    while stack:
        depth, found = stack.pop()
        yield depth, found
        if isinstance(found, Mapping):
            stack += [(depth + 1, inner) for inner in found.values()]
        elif isinstance(found, list | tuple):
            stack += [(depth + 1, inner) for inner in found]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"the number {name}")
