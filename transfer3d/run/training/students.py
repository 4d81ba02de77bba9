"""Builds and checks a recipe's student and teacher, each a registered name or a checkpoint."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transfer3d.errors import Transfer3dError, UsageError
from transfer3d.files import sha256_file
from transfer3d.models.checkpoint import load
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.models.measure import count_gmac
from transfer3d.models.student import VideoStudent
from transfer3d.models.transformers_image import PREFIX, create_transformers_image
from transfer3d.nn.on_meta import on_meta
from transfer3d.objectives.teacher import FrozenTeacher
from transfer3d.recipes.load import stages_of
from transfer3d.recipes.schema import Recipe
from transfer3d.run.inference.session import refuse_other_channels, refuse_videos
from transfer3d.weights.hub import HUB_PREFIX, locate
from transfer3d.weights.metadata import read_metadata
from transfer3d.weights.provenance import image_source

RESERVED = {"num_classes", "seed", "clip", "weights", "name", "drop_rate"}


def is_file(student: str) -> bool:
    """Whether a student or teacher is given as a checkpoint, by its path or hub address."""
    return student.endswith(".safetensors") or student.startswith(HUB_PREFIX) or Path(student).exists()


def build_student(recipe: Recipe, num_classes: int) -> VideoStudent:
    """Builds the recipe's student with a head for `num_classes`; 0 = no head.

    New weights, including those of a new head, are drawn with the recipe's seed.
    """
    name = recipe.require("student")
    if is_file(name):
        if recipe.student_args:
            raise UsageError(f"{name} is a checkpoint with its own arguments: leave student_args out.")
        student = load(name)
        if student.num_classes != num_classes:
            student.reset_classifier(num_classes, seed=recipe.seed)
    else:
        if reserved := set(recipe.student_args) & RESERVED:
            raise UsageError(f"student_args.{min(reserved)} cannot be set in a recipe: the run sets it.")
        student = create_model(name, num_classes=num_classes, seed=recipe.seed, **recipe.student_args)
    refuse_other_channels(student, name)
    if recipe.dropout is not None:
        student.dropout.p = recipe.dropout
    student.clip = recipe.clip.apply(student.clip)
    return student


def build_teacher(recipe: Recipe) -> FrozenTeacher:
    """Builds the recipe's teacher: a timm model, a transformers model (`hf:`), or a student's checkpoint."""
    name = recipe.require("teacher")
    if is_file(name):
        return FrozenTeacher(load(name))
    if name.startswith(PREFIX):
        return FrozenTeacher(create_transformers_image(name))
    return FrozenTeacher(create_image_model(name, recipe.weights, seed=recipe.seed))


def has_own_weights(teacher: str) -> bool:
    """Whether a teacher's name includes its weights: a checkpoint, or a transformers model."""
    return is_file(teacher) or teacher.startswith(PREFIX)


def check_student(recipe: Recipe) -> None:
    """Builds the recipe's student on the meta device and runs it on one clip.

    Raises:
        UsageError: the student does not exist, or does not support this clip.
        WeightsError: its checkpoint is invalid.
    """
    name = recipe.require("student")
    refuse_videos(Path(name), "Give videos with --data.")
    try:
        with nullcontext() if is_file(name) else on_meta():
            student = build_student(recipe, num_classes=0)
        count_gmac(student.to("meta"))
    except Transfer3dError:  # may be a ValueError, and is already reported clearly
        raise
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"{name} does not support these clips ({str(error).splitlines()[0]}). Change [clip]."
        ) from error


def parent_entry(student: str) -> dict[str, Any]:
    """Returns the provenance entry for a student's initial weights, with the image model they came from."""
    if is_file(student):
        file = locate(student)
        source = image_source(read_metadata(file).provenance)
        return {"checkpoint": student, "sha256": sha256_file(file)} | ({"source": source} if source else {})
    return {"checkpoint": None, "model": student}


def class_names_of(student: str) -> list[str] | None:
    """Returns the class names that a checkpoint records; None for a registered name."""
    return read_metadata(locate(student)).class_names if is_file(student) else None


def check_recipe(recipe: Recipe) -> None:
    """Checks the named students and teachers of all stages.

    Raises:
        UsageError: no such student or teacher, or the student does not support the recipe's clips.
        WeightsError: a student's or a teacher's checkpoint is invalid.
    """
    for stage in stages_of(recipe).values() or [recipe]:
        if stage.student is not None:
            check_student(stage)
        if stage.task != "correspond" or stage.teacher is None:
            continue
        if has_own_weights(stage.teacher):
            build_teacher(stage)
            continue
        with on_meta():
            create_image_model(stage.teacher, "none")
