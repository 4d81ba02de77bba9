"""Hints for command lines that do not parse."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer3d.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

CHECKPOINT = Path("model.safetensors")
TYPED = "transfer3d.typed"
"""Key of the command line in a context's `meta`."""


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
        return
    message = error.format_message()
    if "--data" in options and ("extra argument" in message or "'--data'" in message):
        typed = error.ctx.meta.get(TYPED, [])
        typed = typed[typed.index(error.ctx.info_name) + 1 :]
        if "--data" not in typed and (videos := videos_among(_words(typed))):
            line = shlex.join([*(word for word in typed if word != videos), "--data", videos])
            hint = f"Videos are given with --data {videos}: {error.ctx.command_path} {line}"
            error.message = f"{error.message}. {hint}" if error.message else hint


def option_error(error: ValidationError) -> UsageError:
    """Returns the error for an option whose value a configuration refuses."""
    first = error.errors()[0]
    option = "-".join(map(str, first["loc"])).replace("_", "-")
    return UsageError(f"--{option} {first['input']}: {first['msg'].lower()}.")


def videos_among(words: Sequence[str]) -> str | None:
    """Returns the last of the words that is a path of something else than a checkpoint."""
    others = [word for word in words if Path(word).exists() and Path(word).suffix != CHECKPOINT.suffix]
    return next((word for word in reversed(others) if not (Path(word) / CHECKPOINT).exists()), None)


def _words(typed: Sequence[str]) -> list[str]:
    """Returns the words of a command line that are neither options nor may be their values."""
    pairs = zip(("", *typed), typed, strict=False)
    return [word for before, word in pairs if not word.startswith("-") and not before.startswith("-")]


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
