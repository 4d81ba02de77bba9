"""From a recipe to a trained student in a run folder: the same path for every training task."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from transfer3d.engine.publishing import publish_student
from transfer3d.engine.run_folder import MODEL, RECIPE
from transfer3d.engine.tracker import open_tracker
from transfer3d.engine.trainer import Trainer
from transfer3d.files import write_text
from transfer3d.recipes.load import dump
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training import correspond, finetune
from transfer3d.run.training.plan import plan_training, recorded_recipe
from transfer3d.run.training.run_manifest import write_manifest
from transfer3d.run.training.session import Session, open_session
from transfer3d.run.training.students import check_student
from transfer3d.run.training.task import Task

COMPLETE_RECIPE = {"correspond": correspond.complete_recipe, "finetune": finetune.complete_recipe}
BUILD_TASK = {"correspond": correspond.build_task, "finetune": finetune.build_task}


def run_task(
    recipe: Recipe,
    *,
    out: Path | None,
    resume: bool = False,
    console: Console | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Trains what a recipe describes and returns the run folder.

    Args:
        recipe: without stages.
        out: run folder; None = the next free one under `runs`.
        resume: continue an unfinished run.
        console: where to print; None = stderr.
        accelerator: of the processes that this run shares with others; None = its own.

    Raises:
        UsageError: the recipe lacks what its task needs, or its student cannot take its clip.
    """
    recipe = COMPLETE_RECIPE[recipe.task](recipe)
    check_student(recipe)
    title = f"{recipe.task}-{Path(recipe.given('student')).stem}"
    with open_session(
        recipe, out, title=title, resume=resume, console=console, accelerator=accelerator
    ) as session:
        if session.finished:
            session.say(f"{session.path} holds a finished run: nothing to do")
        else:
            _train(session, BUILD_TASK[recipe.task](session))
    return session.path


def _train(session: Session, task: Task) -> None:
    """Plans and trains, and leaves `model.safetensors` in the run folder."""
    config = plan_training(session, task.objective, task.student.clip, task.videos)
    recipe = recorded_recipe(session.recipe, config)
    folder = session.folder
    provenance = {**task.provenance, "recipe": dump(recipe)}
    publish = partial(
        publish_student, task.objective, folder, task.videos,
        provenance=provenance, class_names=task.class_names,
    )  # fmt: skip
    tracker = open_tracker(recipe.tracker, session.path, recipe.model_dump()) if folder else None
    trainer = Trainer(
        task.objective,
        task.videos,
        config,
        folder,
        resume=session.resume,
        accelerator=session.accelerator,
        validate=task.validate,
        publish=publish,
        identity=task.identity,
        tracker=tracker,
        console=session.console,
    )
    if session.resume:
        session.say(f"resuming at step {trainer.step}" if trainer.step else "no checkpoint yet: from step 0")
    elif folder:  # only now: the recipe marks the folder as that of an unfinished run
        write_text(session.path / RECIPE, dump(recipe))
    write_manifest(session, task.videos, task.held_out)
    try:
        with task.training:
            metrics = trainer.run()
    finally:
        if tracker:
            tracker.finish()
    if trainer.step < config.steps:
        session.say(
            f"stopped early at step {trainer.step}: no better score in {config.early_stop} validations"
        )
    first, *more = task.summary(metrics)
    session.say(f"{first} -> {session.path / MODEL}")
    for line in more:
        session.say(line)
