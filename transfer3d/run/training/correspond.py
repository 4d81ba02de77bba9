"""Correspondence training: trains a student with a teacher on unlabelled videos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of
from transfer3d.errors import UsageError
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.objectives.diagnostics import training_warnings
from transfer3d.objectives.feature_cache import FeatureCache
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.builtin_data import data_folder, data_text
from transfer3d.run.training.paired_student import describe, with_paired_student
from transfer3d.run.training.session import Session
from transfer3d.run.training.students import (
    build_student,
    build_teacher,
    class_names_of,
    has_own_weights,
    parent_entry,
)
from transfer3d.run.training.task import Metrics, Task
from transfer3d.run.training.warm_start import start_from

PAPER_RECIPE = "t3d/sec4.4-supervision-transfer"
REHEARSAL = "a rehearsal on small clips, within 10 minutes on two cores with densenet121"
ACCURACIES = ("matched", "mismatched", "balanced")


def complete_recipe(recipe: Recipe) -> Recipe:
    """Returns the recipe with a student: its own, or the default for its teacher.

    Raises:
        UsageError: it names no teacher, or options that do not fit it.
    """
    teacher = recipe.require("teacher")
    if recipe.segments > 1:
        raise UsageError(f"segments={recipe.segments} is for finetune only: correspond pairs single clips.")
    if has_own_weights(teacher) and recipe.weights != "timm":
        raise UsageError(f"{teacher} has its own weights: leave --weights out.")
    if recipe.student is None and has_own_weights(teacher):
        raise UsageError(f"{teacher} is a teacher without a default student: name one with --student.")
    return recipe if recipe.student else with_paired_student(recipe)


def build_task(session: Session) -> Task:
    """Builds teacher and student and opens the videos."""
    recipe = session.recipe
    name, class_names = recipe.require("teacher"), teacher_classes(recipe)
    teacher = build_teacher(recipe)
    digest = teacher.digest()
    student = build_student(recipe, num_classes=teacher.num_classes if recipe.correspondence.kd else 0)
    if recipe.start:
        session.say(start_from(student, recipe.start, ()))
    weights = "its own" if has_own_weights(name) else recipe.weights
    session.say(
        f"correspond: teacher {name} (weights: {weights}) -> student {recipe.student}, {data_text(recipe)}"
    )
    if recipe.data is None:
        session.say(f"{REHEARSAL}; the paper's recipe: --recipe {PAPER_RECIPE} --data DIR")
    session.say(describe(student))
    objective = Correspondence(teacher, student, recipe.correspondence, seed=recipe.seed)
    teacher.check(objective.teacher_clip)
    data = data_folder(session)
    videos = share_of(open_videos(data, split=None, labelled=False), recipe.data_share, seed=recipe.seed)
    session.say(f"{len(videos)} videos of {data}")
    session.say_dropped(videos)
    teacher.to(session.accelerator.device)
    cache = objective.cache = open_cache(session, objective, videos.digest)

    @contextmanager
    def training() -> Iterator[None]:
        try:
            yield
        finally:
            if cache:
                cache.flush()  # also after an interrupted run, to keep its teacher outputs
        if teacher.digest() != digest:
            raise AssertionError("the frozen teacher's weights have changed")

    def summary(metrics: Metrics) -> Iterator[str]:
        accuracies = {name: metrics.get(f"{name}_accuracy", math.nan) for name in ACCURACIES}
        known = [f"{name} {value:.1%}" for name, value in accuracies.items() if not math.isnan(value)]
        yield f"{', '.join(known)} (chance 50 %)" if known else f"loss {metrics['loss']:.4g}"
        if cache:
            yield f"the teacher ran on {cache.computed} of {cache.requested} clips; the others were cached"
        for warning in training_warnings(metrics):
            yield f"warning: {warning}"

    return Task(
        objective=objective,
        student=student,
        videos=videos,
        summary=summary,
        provenance={
            "made_by": "correspond",
            "parent": parent_entry(recipe.start or recipe.require("student")),
            "teacher": {"name": name, "weights": weights, "digest": digest},
        },
        class_names=class_names,
        identity={"teacher": digest},
        training=training(),
    )


def open_cache(session: Session, objective: Correspondence, data_digest: str) -> FeatureCache | None:
    """Opens the recipe's cache of teacher outputs, or returns None if it names none."""
    folder, clip = objective.config.cache, objective.teacher_clip
    if folder is None:
        return None
    frames = objective.config.teacher_frames
    scope = f"{data_digest} {clip.size} {clip.crop} {session.accelerator.mixed_precision}"
    scope += "" if frames is None else f" {frames} frames"
    process = session.accelerator.process_index
    cache = FeatureCache(objective.teacher, Path(folder), scope=scope, process=process)
    session.say(f"{len(cache)} outputs of this teacher in {folder}")
    return cache


def teacher_classes(recipe: Recipe) -> list[str] | None:
    """Returns the class names of the teacher that kd transfers; None if they are unknown.

    Raises:
        UsageError: teacher and student have classes of different names.
    """
    if not recipe.correspondence.kd:
        return None
    teacher, student = recipe.require("teacher"), recipe.require("student")
    of_teacher, of_student = class_names_of(teacher), class_names_of(student)
    if of_teacher and of_student and of_teacher != of_student:
        raise UsageError(
            f"kd needs one label space: teacher {teacher} and student {student} have different classes. "
            "Choose another of the two, or set correspondence.kd=0."
        )
    return of_teacher
