"""From the options of a training command to its recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer3d.recipes.load import load_recipe
from transfer3d.recipes.schema import Recipe


def resolve(
    task: str,
    recipe: str | None,
    overrides: Sequence[str],
    *,
    resumed: Path | None = None,
    **options: Any,
) -> Recipe:
    """Returns the recipe that a command runs.

    A resumed run takes the recipe of its folder. Without a recipe the defaults are `demo/<task>` on the
    built-in data and `default/<task>` on the user's own, where the student keeps its own clip.

    Args:
        task: "correspond" or "finetune".
        recipe: name or file; None = the default.
        overrides: `--set key=value`; they win over everything.
        resumed: run folder that is gone on with.
        options: keys of the recipe given as options of their own; None = not given.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if resumed is not None and (resumed / "recipe.toml").is_file():
        return load_recipe(resumed / "recipe.toml", overrides, **given)
    name = recipe or ("default" if "data" in given else "demo") + f"/{task}"
    return load_recipe(name, overrides, **given)
