"""Whether a recipe can be run: its students and teachers are built, without their memory."""

from __future__ import annotations

import torch

from transfer3d.models.checkpoint import load
from transfer3d.models.image import create_image_model
from transfer3d.recipes.load import stages_of
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.students import check_student, is_file


def check_recipe(recipe: Recipe) -> None:
    """Checks the student and the teacher of every stage; those that are left open are passed over.

    Raises:
        UsageError: there is no such student or teacher, or the student cannot take such clips.
        WeightsError: a student's or a teacher's file is refused.
    """
    for stage in stages_of(recipe).values() or [recipe]:
        if stage.student is not None:
            check_student(stage)
        if stage.task != "correspond" or stage.teacher is None:
            continue
        if is_file(stage.teacher):
            load(stage.teacher)
            continue
        with torch.device("meta"):
            create_image_model(stage.teacher, "none")
