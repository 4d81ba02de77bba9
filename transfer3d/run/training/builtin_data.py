"""The data of a run: the user's, or the built-in dataset, which is written once and cached."""

from __future__ import annotations

from pathlib import Path

from transfer3d.data.moving_digits import SynthConfig, synthesise
from transfer3d.engine.distributed import on_main
from transfer3d.files import home_folder
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.session import Session

CACHE = Path(".cache") / "transfer3d" / "moving-digits"


def data_text(recipe: Recipe) -> str:
    """Returns the description of the data for the first line of output."""
    return f"data {recipe.data}" if recipe.data else "no --data: the built-in moving digits"


def data_folder(session: Session) -> str:
    """Returns the folder of the run's data: the recipe's, or the built-in dataset's, which may be written."""
    if session.recipe.data is not None:
        return session.recipe.data
    folder = home_folder() / CACHE
    on_main(session.accelerator, lambda: synthesise(folder, SynthConfig(), session.console, wait=True))
    return str(folder)
