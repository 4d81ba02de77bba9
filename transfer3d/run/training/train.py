"""Trains a recipe: in one run, or in consecutive stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from rich.console import Console

from transfer3d.engine.distributed import is_main_process, on_main
from transfer3d.engine.run_folder import FINISHED, MODEL, RECIPE
from transfer3d.errors import UsageError
from transfer3d.files import atomic_path, write_text
from transfer3d.recipes.load import dump, load_recipe, stages_of
from transfer3d.recipes.schema import Recipe
from transfer3d.run.pages.report import quick_report
from transfer3d.run.training.run_task import run_task
from transfer3d.run.training.session import Session, open_session
from transfer3d.run.training.validate import check_recipe
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata


def train(
    recipe: Recipe, task: str, *, out: Path | None, resume: bool = False, console: Console | None = None
) -> Path:
    """Trains the recipe, writes `report.html` and returns the run folder.

    Each stage is a run in a folder of its own within the run folder, and resumes as any run does. The last
    stage's student is copied to the run folder.

    Args:
        recipe: of that task.
        task: "correspond" or "finetune".
        out: run folder; None = the next free one under `runs`.
        resume: continue an unfinished run.
        console: where to print; None = stderr.

    Raises:
        UsageError: the recipe is for another task, or lacks what its task needs, in any of its stages.
    """
    recipe.expect_task(task)
    console = console or Console(stderr=True)
    done_before = out is not None and (out / FINISHED).exists()
    path = _train(recipe, task, out=out, resume=resume, console=console)
    if is_main_process() and not done_before:
        console.print(f"the run's page -> {quick_report(path)}", highlight=False, soft_wrap=True)
    return path


def _train(recipe: Recipe, task: str, *, out: Path | None, resume: bool, console: Console) -> Path:
    if not recipe.stages:
        return run_task(recipe, out=out, resume=resume, console=console)
    if not resume:
        for name, stage in stages_of(recipe).items():
            _refuse_missing(name, stage)
    title = f"{task}-{Path(recipe.student or 'stages').stem}"
    with open_session(recipe, out, title=title, resume=resume, console=console) as session:
        if session.finished:
            session.say(f"{session.path} holds a finished run: nothing to do")
        else:
            _train_stages(session)
    return session.path


def _refuse_missing(name: str, stage: Recipe) -> None:
    """Raises before the first stage what would end a later one."""
    place = Path(stage.data or "")
    place = place.parent if place.suffix == ".tar" else place  # a pattern of many shards is not a file
    if "://" not in (stage.data or "") and not place.exists():
        raise UsageError(
            f"stage {name}: {stage.data} does not exist. Name videos with --set stages.{name}.data=..."
        )  # fmt: skip
    if stage.start is not None:
        read_metadata(locate(stage.start))
    check_recipe(stage)


def _train_stages(session: Session) -> None:
    if session.folder and not session.resume:
        write_text(session.path / RECIPE, dump(session.recipe))
    previous: Path | None = None
    stages = stages_of(session.recipe)
    for number, (name, recipe) in enumerate(stages.items(), 1):
        folder = session.path / name
        started = on_main(session.accelerator, (folder / RECIPE).exists)
        session.say(f"stage {number} of {len(stages)}: {name}")
        if started:
            recipe = load_recipe(folder / RECIPE)
        elif previous is not None and recipe.start is None:
            recipe = recipe.model_copy(update={"start": str(previous / MODEL)})
        run_task(recipe, out=folder, resume=started, console=session.console, accelerator=session.accelerator)
        session.accelerator.wait_for_everyone()
        previous = folder
    if session.folder and previous is not None:
        with atomic_path(session.path / MODEL) as partial:
            shutil.copyfile(previous / MODEL, partial)
        session.folder.finish(json.loads((previous / FINISHED).read_text(encoding="utf-8")))
