"""Builds a training command's recipe from its options."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer3d.engine.run_folder import FREE, RECIPE, STARTED
from transfer3d.errors import UsageError
from transfer3d.files import read_json, sha256_file
from transfer3d.recipes.load import load_recipe
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.paired_student import with_paired_student

CHECKPOINTS = ("student", "start", "teacher", "weights")
"""Keys of a recipe that may name a file."""


def resumed_folder(out: Path | None, resume: bool) -> Path | None:
    """Returns the folder of the run to continue; None = a new run.

    Raises:
        UsageError: `resume` without a folder.
    """
    if resume and out is None:
        raise UsageError("--resume needs the run's folder. Name it with -o RUN.")
    return out if resume else None


def resolve(
    task: str, recipe: str | None, overrides: Sequence[str], *, resumed: Path | None = None, **options: Any
) -> Recipe:
    """Returns the recipe of a command.

    A resumed run uses the recipe in its folder; another one is refused, but paths may have changed. The
    default recipe is `demo/<task>` for the built-in data, and `default/<task>` for the user's own, with the
    student's own clip.

    Args:
        task: "correspond" or "finetune".
        recipe: name or file; None = the default.
        overrides: `--set key=value`; they have the highest precedence.
        resumed: folder of the run to continue.
        options: keys of the recipe that have their own command-line options; None = not given.

    Raises:
        UsageError: an invalid recipe, or a recipe that differs from the resumed run's.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if "max_steps" in given:
        given.setdefault("epochs", None)  # otherwise the shorter of the two would apply
    own_data = "data" in given or any(override.startswith("data=") for override in overrides)
    name = recipe or ("default" if own_data else "demo") + f"/{task}"
    if resumed is not None and (resumed / RECIPE).is_file():
        stored = load_recipe(resumed / RECIPE)
        asked = load_recipe(name if recipe else resumed / RECIPE, overrides, **given)
        if task == "correspond" and asked.student is None and asked.teacher:
            asked = with_paired_student(asked)
        moved = _moved_keys(stored, asked, recorded_files(resumed))
        if changed := changed_keys(stored, asked, moved):
            raise UsageError(
                f"{resumed} was started with other values: {', '.join(changed)}. Resume with the same."
            )
        return stored.model_copy(update={key: getattr(asked, key) for key in (*FREE, *moved)})
    return load_recipe(name, overrides, **given)


def recorded_files(folder: Path) -> dict[str, str]:
    """Returns the recorded sha256 of the files that a run was started with, by the recipe's key."""
    try:
        files = read_json(folder / STARTED).get("files", {})
        return {key: str(files[key]) for key in CHECKPOINTS if key in files}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _moved_keys(stored: Recipe, asked: Recipe, files: Mapping[str, str]) -> list[str]:
    """Returns the keys whose path changed while the content did not.

    The data's digest is compared when it is opened; those of checkpoints are in the run's `files`.
    """
    moved = ["data"] if asked.data is not None and asked.data != stored.data else []
    for key, digest in files.items():
        path = Path(getattr(asked, key) or "")
        if getattr(asked, key) != getattr(stored, key) and path.is_file() and sha256_file(path) == digest:
            moved.append(key)
    return moved


def changed_keys(stored: Recipe, asked: Recipe, moved: Collection[str] = ()) -> list[str]:
    """Returns the keys in which a command's recipe differs from the one that the run was started with.

    Values that the command leaves at None or "auto" were determined when the run started.

    Args:
        stored: the recipe that the run was started with.
        asked: the command's recipe.
        moved: keys of paths that may differ.
    """
    old, new = stored.model_dump(), asked.model_dump()
    settled = [key for key, value in new.items() if value in (None, "auto")]
    # With epochs, a run records the smaller number of steps, so a larger one may be the original value.
    new_steps, old_steps = asked.max_steps, stored.max_steps
    larger = new_steps is not None and old_steps is not None and new_steps >= old_steps
    steps = ["max_steps"] if asked.epochs is not None and larger else []
    return [
        f"{key}={old[key]!r}"
        for key in old
        if old[key] != new[key] and key not in (*settled, *steps, *moved, *FREE)
    ]
