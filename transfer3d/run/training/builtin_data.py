"""The data of a run: the user's, or the built-in dataset, made once and kept."""

from __future__ import annotations

from pathlib import Path

from transfer3d.data.moving_digits import SynthConfig, synthesise
from transfer3d.engine.distributed import on_main
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.session import Session

CACHE = Path(".cache") / "transfer3d" / "moving-digits"


def data_text(recipe: Recipe) -> str:
    """Returns what the first line of output says of the data."""
    return f"data {recipe.data}" if recipe.data else "no --data: the built-in moving digits"


def data_folder(session: Session, home: Path | None = None) -> str:
    """Returns the folder of the run's data; the built-in dataset is written first where it is not there yet.

    Args:
        session: its recipe may name no data.
        home: whose cache holds the built-in dataset; None = the user's.
    """
    if session.recipe.data is not None:
        return session.recipe.data
    folder = (home or Path.home()) / CACHE
    on_main(session.accelerator, lambda: synthesise(folder, SynthConfig(), session.console))
    return str(folder)
