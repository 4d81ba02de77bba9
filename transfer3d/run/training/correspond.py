"""Correspondence training: a recipe, a teacher and videos become a student."""

from __future__ import annotations

import math
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of
from transfer3d.engine.run_folder import MODEL
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.checkpoint import load
from transfer3d.models.image import create_image_model
from transfer3d.models.registry import list_models
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.objectives.diagnostics import alarms
from transfer3d.objectives.feature_cache import LessonCache
from transfer3d.objectives.teacher import FrozenTeacher, paired_student
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.builtin_data import data_folder, data_text
from transfer3d.run.training.fit import fit
from transfer3d.run.training.session import Session, open_session
from transfer3d.run.training.students import build_student, check_student, is_file, parent_facts
from transfer3d.run.training.warm_start import start_from
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata


def correspond(
    recipe: Recipe,
    *,
    out: Path | None,
    resume: bool = False,
    console: Console | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Runs the recipe and returns the run folder.

    Args:
        recipe: task "correspond", with a teacher.
        out: run folder; None = the next free one under `runs`.
        resume: go on with an unfinished run.
        console: where to print; None = stderr.
        accelerator: of the processes that this run shares with others; None = its own.

    Raises:
        UsageError: the recipe is for another task, names no teacher, or a student that cannot take its clip.
    """
    recipe.expect_task("correspond")
    teacher = recipe.given("teacher")
    if is_file(teacher) and recipe.weights != "timm":
        raise UsageError(f"{teacher} is a checkpoint and has its own weights: leave --weights out.")
    if recipe.student is None and is_file(teacher):
        raise UsageError(f"{teacher} is a video teacher, which goes with any student: name one.")
    name = recipe.student or paired_student(teacher, list_models())
    recipe = recipe.model_copy(update={"student": name})
    check_student(recipe)
    title = f"correspond-{Path(name).stem}"
    with open_session(
        recipe, out, title=title, resume=resume, console=console, accelerator=accelerator
    ) as session:
        if session.finished:
            session.say(f"{session.path} holds a finished run: nothing to do")
        else:
            _train(session)
    return session.path


def _train(session: Session) -> None:
    recipe = session.recipe
    name = recipe.given("teacher")
    teacher = build_teacher(recipe)
    digest = teacher.digest()
    student = build_student(recipe, num_classes=teacher.num_classes if recipe.correspondence.kd else 0)
    if recipe.start:
        session.say(start_from(student, recipe.start, ()))
    weights = "its own" if is_file(name) else recipe.weights
    session.say(
        f"correspond: teacher {name} (weights: {weights}) -> student {recipe.student}, {data_text(recipe)}"
    )
    teacher.check(student.clip)
    data = data_folder(session)
    videos = share_of(open_videos(data, split=None, labelled=False), recipe.data_share, seed=recipe.seed)
    session.say(f"{len(videos)} videos of {data}")
    session.say_dropped(videos)
    teacher.to(session.accelerator.device)
    facts = {
        "made_by": "correspond",
        "parent": parent_facts(recipe.start or recipe.given("student")),
        "teacher": {"name": name, "weights": weights, "digest": digest},
        "class_names": taught_classes(recipe),
    }
    cache = open_cache(session, teacher, student.clip, videos.digest)
    objective = Correspondence(teacher, student, recipe.correspondence, seed=recipe.seed, cache=cache)
    view = recipe.correspondence.teacher_view
    try:
        metrics = fit(
            session,
            objective,
            student,
            videos,
            facts=facts,
            identity={"teacher": digest},
            second="none" if view == "same" else view,
        )
    finally:
        if cache:
            cache.flush()  # of a run that is ended too: what was asked is not asked again
    if teacher.digest() != digest:
        raise AssertionError("the frozen teacher's weights have changed")
    told = (
        (name, metrics.get(f"{name}_accuracy", math.nan)) for name in ("matched", "mismatched", "balanced")
    )
    shown = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in told if not math.isnan(accuracy))
    shown = f"{shown} (chance 50 %)" if shown else f"loss {metrics['loss']:.4g}"
    session.say(f"{shown} -> {session.path / MODEL}")
    if cache:
        session.say(
            f"the teacher looked at {cache.asked} of {cache.given} clips; the others' lessons were kept"
        )
    for alarm in alarms(metrics):
        session.say(f"look at this: {alarm}")


def open_cache(
    session: Session, teacher: FrozenTeacher, clip: ClipSpec, data_digest: str
) -> LessonCache | None:
    """Opens the recipe's cache of lessons, or returns None where it names none."""
    folder = session.recipe.correspondence.cache
    if folder is None:
        return None
    precision = session.accelerator.mixed_precision
    scope = f"{data_digest} {clip.size} {clip.crop} {precision}"
    cache = LessonCache(teacher, Path(folder), scope=scope, process=session.accelerator.process_index)
    session.say(f"{len(cache)} lessons of this teacher in {folder}")
    return cache


def taught_classes(recipe: Recipe) -> list[str] | None:
    """Returns the names of the classes that kd gives the student; None where they are not known.

    Raises:
        UsageError: teacher and student name other classes: their label spaces do not meet.
    """
    if not recipe.correspondence.kd:
        return None
    files = (recipe.given("teacher"), recipe.given("student"))
    of_teacher, of_student = (
        read_metadata(locate(file)).class_names if is_file(file) else None for file in files
    )
    if of_teacher and of_student and of_teacher != of_student:
        raise UsageError(
            f"kd needs one label space: teacher {files[0]} and student {files[1]} name other classes. "
            "Take another of the two, or set correspondence.kd=0.",
        )
    return of_teacher


def build_teacher(recipe: Recipe) -> FrozenTeacher:
    """Builds the recipe's teacher: a timm model, or a student's checkpoint file."""
    name = recipe.given("teacher")
    if is_file(name):
        return FrozenTeacher(load(name))
    return FrozenTeacher(create_image_model(name, recipe.weights, seed=recipe.seed))
