"""Recipes: reads TOML files into validated, frozen configurations of runs.

Names in `__all__` are public and imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer3d.recipes.load import dump, load_recipe
    from transfer3d.recipes.schema import Recipe

__all__ = ["Recipe", "dump", "load_recipe"]

_MODULES = {"Recipe": "schema", "dump": "load", "load_recipe": "load"}


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"transfer3d.recipes.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'transfer3d.recipes' has no attribute '{name}'")
