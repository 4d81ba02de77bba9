"""Finds recipe files and reads them with their parents. Does not import torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.files import read_regular

MAX_BYTES = 1 << 20
"""Maximum size of a recipe file."""
MAX_PARENTS = 16


def recipe_folder() -> Path:
    """Returns the recipes of the installed package, or of the source checkout."""
    packed = Path(__file__).parents[1] / "_recipes"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "recipes"


def list_recipes() -> list[str]:
    """Returns the names of all built-in recipes, `<folder>/<file>` without the suffix."""
    root = recipe_folder()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.toml"))


def read_with_parents(name: str | Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Returns the values of a recipe merged over those of its parents, not validated.

    Args:
        name: a built-in name, or a path that ends in .toml.
        seen: the recipes that extend this one.

    Raises:
        UsageError: no such recipe, bad TOML, a recipe that extends itself, or more than `MAX_PARENTS`.
    """
    path = _find(name)
    if path in seen:
        raise UsageError(f"recipe {path} extends itself. Break the cycle of `extends`.")
    if len(seen) > MAX_PARENTS:
        raise UsageError(
            f"recipe {path} is extended through more than {MAX_PARENTS} levels. "
            "Shorten the chain of `extends`."
        )
    try:
        values = tomllib.loads(read_regular(path, MAX_BYTES).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also for invalid UTF-8, and for numbers that are too long
        raise UsageError(f"recipe {path} is not valid TOML: {error}. Correct the file.") from None
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if str(parent).endswith(".toml"):
        parent = path.parent / parent
    return merge(read_with_parents(parent, (*seen, path)), values)


def _find(name: str | Path) -> Path:
    path = Path(name) if str(name).endswith(".toml") else recipe_folder() / f"{name}.toml"
    if path.is_file():
        return path
    hint = did_you_mean(str(name), list_recipes())
    raise UsageError(f"no recipe '{name}'{hint}. `transfer3d recipe ls` lists them.")


def merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of `base` updated with `changes`, merging tables recursively."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
