"""Hints for command lines that do not parse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def add_hint(error: Any) -> None:
    """Adds the probable correction to a click error's message."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    options = {name for parameter in getattr(command, "params", ()) for name in parameter.opts}
    option = getattr(error, "option_name", None)
    if option and "--set" in options:
        keys = _keys_like(option.lstrip("-").replace("-", "_"))
        if keys:
            error.possibilities = None
            error.message += (
                f". It is a key of the recipe: --set {' or --set '.join(f'{k}=...' for k in keys)}"
            )
    elif "extra argument" in error.format_message() and "--data" in options:
        extra = error.format_message().rpartition("(")[2].rstrip(").").split(" ")[0]
        if Path(extra).exists():
            error.message += f". Videos are given with --data {extra}"


def _keys_like(name: str) -> list[str]:
    """Returns the recipe's keys of this name, prefixed with their tables."""
    from transfer3d.recipes.schema import Recipe

    return [key for key in _keys(Recipe) if key == name or key.rpartition(".")[2] == name]


def _keys(model: Any, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
