"""Supervised training: from scratch, from an inflated file or from a correspondence checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from transfer3d.data.source import VideoSet, open_videos
from transfer3d.data.subset import share_of, split_off
from transfer3d.engine.run_folder import MODEL
from transfer3d.errors import DataError, NoSuchSplit
from transfer3d.evaluation.metrics import video_metrics
from transfer3d.evaluation.scoring import refuse_dropped, score_videos
from transfer3d.objectives.classification import Supervised, balanced_weights
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.builtin_data import data_folder, data_text
from transfer3d.run.training.fit import fit
from transfer3d.run.training.session import Session, open_session
from transfer3d.run.training.students import build_student, check_student, parent_facts
from transfer3d.run.training.warm_start import start_from


def finetune(
    recipe: Recipe,
    *,
    out: Path | None,
    resume: bool = False,
    console: Console | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Runs the recipe and returns the run folder.

    Args:
        recipe: task "finetune", with student and data.
        out: run folder; None = the next free one under `runs`.
        resume: go on with an unfinished run.
        console: where to print; None = stderr.
        accelerator: of the processes that this run shares with others; None = its own.

    Raises:
        UsageError: the recipe is for another task, or names no student or data.
    """
    recipe.expect_task("finetune")
    title = f"finetune-{Path(recipe.given('student')).stem}"
    check_student(recipe)
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
    name = recipe.given("student")
    session.say(f"finetune: {name}, {data_text(recipe)}")
    data = data_folder(session)
    whole = open_videos(data, split="train", labelled=True)
    validation = open_validation(data, whole)
    if validation is None and recipe.val_share:
        whole, validation = split_off(whole, recipe.val_share, seed=recipe.seed)
    videos = share_of(whole, recipe.data_share, seed=recipe.seed)
    student = build_student(recipe, num_classes=len(videos.classes))
    if recipe.start:
        session.say(start_from(student, recipe.start, videos.classes))
    held_out = f"{len(validation)} for validation" if validation else "none for validation"
    session.say(f"{len(videos)} labelled videos of {len(videos.classes)} classes in {data}, {held_out}")
    session.say_dropped(videos)
    facts = {
        "made_by": "finetune",
        "parent": parent_facts(recipe.start or name),
        "class_names": list(videos.classes),
    }

    def validate() -> Mapping[str, float]:
        assert validation is not None
        scores = score_videos(
            student,
            validation,
            session.accelerator,
            workers=recipe.workers,
        )
        found = video_metrics(scores, validation.classes)
        return {
            "video_top1": found["video_top1"],
            "video_top5": found["video_top5"],
            "score": found["video_top1"],
        }

    weights = (
        balanced_weights(videos.labels, len(videos.classes)) if recipe.class_weights == "balanced" else None
    )
    metrics = fit(
        session,
        Supervised(student, recipe.label_smoothing, weights),
        student,
        videos,
        facts=facts,
        validate=validate if validation else None,
        held_out=validation,
    )
    shown = f", validation top-1 {metrics['video_top1']:.1%}" if validation else ""
    session.say(f"training accuracy {metrics['clip_accuracy']:.1%}{shown} -> {session.path / MODEL}")


def open_validation(data: str, train: VideoSet) -> VideoSet | None:
    """Returns the `val` split of the data, or None where there is none.

    Raises:
        DataError: its classes are others than the training set's, or a file is bad.
    """
    try:
        videos = open_videos(data, split="val", labelled=True)
    except NoSuchSplit:
        return None
    refuse_dropped(videos, data)
    if list(videos.classes) != list(train.classes):
        raise DataError(
            f"{data}: the val split has other classes than train "
            f"({len(videos.classes)} against {len(train.classes)}). Give both the same class folders.",
        )
    return videos
