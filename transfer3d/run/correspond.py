"""Correspondence training: a recipe, a teacher and videos become a student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from transfer3d.data.source import VideoSet, open_videos
from transfer3d.models.image import create_image_model
from transfer3d.models.registry import list_models
from transfer3d.recipes.schema import Recipe
from transfer3d.run.builtin_data import data_folder, data_text
from transfer3d.run.session import Session, fit, open_session
from transfer3d.run.students import build_student, parent_facts
from transfer3d.transfer.correspondence import Correspondence
from transfer3d.transfer.teacher import FrozenTeacher, paired_student


def correspond(
    recipe: Recipe, *, weights: str, out: Path | None, resume: bool = False, console: Console | None = None
) -> Path:
    """Runs the recipe and returns the run folder.

    Args:
        recipe: task "correspond", with teacher and data.
        weights: the teacher's: "timm", "none" or a file.
        out: run folder; None = the next free one under `runs`.
        resume: go on with an unfinished run.
        console: where to print; None = stderr.

    Raises:
        UsageError: the recipe is for another task, or names no teacher or data.
    """
    recipe.expect_task("correspond")
    name = recipe.student or paired_student(recipe.given("teacher"), list_models())
    recipe = recipe.model_copy(update={"student": name})
    session = open_session(recipe, out, title=f"correspond-{Path(name).stem}", resume=resume, console=console)
    try:
        if session.finished:
            session.say(f"{session.path} holds a finished run: nothing to do")
        else:
            _train(session, weights)
    finally:
        session.close()
    return session.path


def _train(session: Session, weights: str) -> Mapping[str, float]:
    recipe = session.recipe
    name = recipe.given("teacher")
    teacher = FrozenTeacher(create_image_model(name, weights, seed=recipe.seed))
    digest = teacher.digest()
    student = build_student(recipe, num_classes=0)
    session.say(
        f"correspond: teacher {name} (weights {weights}) -> student {recipe.student}, {data_text(recipe)}"
    )
    data = data_folder(session)
    videos = open_videos(data, split=None, labelled=False)
    session.say(f"{len(videos)} videos of {data}")
    say_dropped(session, videos)
    teacher.to(session.accelerator.device)
    facts = {
        "made_by": "correspond",
        "parent": parent_facts(recipe.given("student")),
        "teacher": {"name": name, "weights": weights, "digest": digest},
    }
    objective = Correspondence(teacher, student, recipe.correspondence)
    metrics = fit(session, objective, student, videos, facts=facts)
    if teacher.digest() != digest:
        raise AssertionError("the frozen teacher's weights have changed")
    session.say(
        f"matched {metrics['matched_accuracy']:.1%}, mismatched {metrics['mismatched_accuracy']:.1%}, "
        f"balanced {metrics['balanced_accuracy']:.1%} (chance 50 %) -> {session.path / 'model.safetensors'}"
    )
    return metrics


def say_dropped(session: Session, videos: VideoSet) -> None:
    """Names the files that were left out, with the reason."""
    for dropped in videos.dropped:
        session.say(f"left out {dropped.path}: {dropped.reason}")
