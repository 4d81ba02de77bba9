"""A recipe's student: a name of the registry, or a checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.files import sha256_file
from transfer3d.models.checkpoint import load
from transfer3d.models.registry import create_model
from transfer3d.models.student import VideoStudent
from transfer3d.recipes.schema import Recipe


def is_file(student: str) -> bool:
    """Whether a student is given as a checkpoint file."""
    return student.endswith(".safetensors") or Path(student).exists()


def build_student(recipe: Recipe, num_classes: int) -> VideoStudent:
    """Builds the recipe's student with a head for `num_classes`; 0 = no head.

    New weights, a new head included, follow from the recipe's seed.
    """
    name = recipe.given("student")
    if is_file(name):
        student = load(Path(name))
        if student.num_classes != num_classes:
            student.reset_classifier(num_classes, seed=recipe.seed)
    else:
        student = create_model(name, num_classes=num_classes, seed=recipe.seed, **recipe.student_args)
    student.clip = recipe.clip.apply(student.clip)
    return student


def parent_facts(student: str) -> dict[str, Any]:
    """Returns what the checkpoint should say of where the student came from."""
    if is_file(student):
        return {"checkpoint": student, "sha256": sha256_file(Path(student))}
    return {"checkpoint": None, "model": student}
