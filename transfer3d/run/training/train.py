"""Trains a recipe in a run folder, in one run or in consecutive stages."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from transfer3d.data.videoset import check_channels
from transfer3d.engine.batches import clip_of
from transfer3d.engine.distributed import is_main_process, on_main
from transfer3d.engine.publishing import publish_student
from transfer3d.engine.run_folder import FINISHED, MODEL, RECIPE
from transfer3d.engine.tracker import open_tracker
from transfer3d.engine.trainer import Trainer
from transfer3d.errors import UsageError
from transfer3d.files import atomic_path, write_text
from transfer3d.recipes.load import dump, load_recipe, stages_of
from transfer3d.recipes.schema import Recipe
from transfer3d.run.pages.report import report_after_training
from transfer3d.run.pages.run_notes import FinishedNote
from transfer3d.run.pages.run_record import read_note
from transfer3d.run.training import correspond, finetune
from transfer3d.run.training.plan import plan_training, recorded_recipe
from transfer3d.run.training.run_manifest import write_manifest
from transfer3d.run.training.session import Session, open_session
from transfer3d.run.training.students import check_recipe, check_student
from transfer3d.run.training.task import Task
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata

TASKS = {"correspond": correspond, "finetune": finetune}


def train(
    recipe: Recipe, task: str, *, out: Path | None, resume: bool = False, console: Console | None = None
) -> Path:
    """Trains the recipe, writes `report.html` and returns the run folder.

    Each stage is a run in its own subfolder of the run folder, and is resumed like any run. The last stage's
    student is copied to the run folder.

    Args:
        recipe: recipe of the task.
        task: "correspond" or "finetune".
        out: run folder; None = the next free one under `runs`.
        resume: continue an unfinished run.
        console: console to print to; None = stderr.

    Raises:
        UsageError: the recipe is for another task, or a stage lacks a key that its task requires.
    """
    recipe.expect_task(task)
    console = console or Console(stderr=True)
    done_before = out is not None and (out / FINISHED).exists()
    run = _run_stages if recipe.stages else run_task
    path = run(recipe, out=out, resume=resume, console=console)
    if is_main_process() and not done_before:
        console.print(report_after_training(path, console=console), highlight=False, soft_wrap=True)
    return path


def run_task(
    recipe: Recipe,
    *,
    out: Path | None,
    resume: bool = False,
    console: Console | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Trains a recipe without stages, and returns the run folder.

    Args:
        recipe: without stages.
        out: run folder; None = the next free one under `runs`.
        resume: continue an unfinished run.
        console: console to print to; None = stderr.
        accelerator: accelerator of an outer session; None = create one.

    Raises:
        UsageError: the recipe lacks a key that its task requires, or its student does not support its clip.
    """
    task = TASKS[recipe.task]
    recipe = task.complete_recipe(recipe)
    check_student(recipe)
    title = f"{recipe.task}-{Path(recipe.require('student')).stem}"
    with open_session(
        recipe, out, title=title, resume=resume, console=console, accelerator=accelerator
    ) as session:
        if session.needs_training():
            _train(session, task.build_task(session))
    return session.path


def _train(session: Session, task: Task) -> None:
    """Plans and runs the training, and writes `model.safetensors` to the run folder."""
    clip = clip_of(task.objective)
    check_channels(task.videos, clip)
    config = plan_training(session, task.objective, clip, task.videos)
    recipe, folder = recorded_recipe(session.recipe, config), session.folder
    provenance = {**task.provenance, "recipe": dump(recipe)}
    if task.videos.flow:
        provenance["flow"] = task.videos.flow.model_dump()
    publish = partial(
        publish_student,
        task.objective,
        folder,
        task.videos,
        provenance=provenance,
        class_names=task.class_names,
    )
    tracker = open_tracker(recipe.tracker, session.path, recipe.model_dump()) if folder else None
    try:
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
            session.say(
                f"resuming at step {trainer.step}" if trainer.step else "no checkpoint yet: from step 0"
            )
        if folder:  # not earlier: a recipe in the folder marks an unfinished run
            write_text(session.path / RECIPE, dump(recipe))
        write_manifest(session, task.videos, task.held_out)
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


def _run_stages(recipe: Recipe, *, out: Path | None, resume: bool, console: Console) -> Path:
    if not resume:
        for name, stage in stages_of(recipe).items():
            _check_stage(name, stage)
    title = f"{recipe.task}-{Path(recipe.student or 'stages').stem}"
    with open_session(recipe, out, title=title, resume=resume, console=console) as session:
        if session.needs_training():
            _train_stages(session)
    return session.path


def _check_stage(name: str, stage: Recipe) -> None:
    """Checks a stage before the first one starts, so that it does not fail later."""
    place = Path(stage.data or "")
    place = place.parent if place.suffix == ".tar" else place  # a pattern of many shards is not a file
    if "://" not in (stage.data or "") and not place.exists():
        raise UsageError(
            f"stage {name}: {stage.data} does not exist. Name videos with --set stages.{name}.data=..."
        )
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
        with atomic_path(session.path / MODEL) as partial_file:
            shutil.copyfile(previous / MODEL, partial_file)
        ended = read_note(previous / FINISHED, FinishedNote)
        session.folder.finish(ended.model_dump() if ended else {})
