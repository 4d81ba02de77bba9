"""Checks that a recipe can be run, by building its students and teachers on the meta device."""

from __future__ import annotations

import torch

from transfer3d.models.checkpoint import load
from transfer3d.models.image import create_image_model
from transfer3d.recipes.load import stages_of
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.students import check_student, is_file


def check_recipe(recipe: Recipe) -> None:
    """Checks the student and the teacher of every stage, where they are named.

    Raises:
        UsageError: no such student or teacher, or the student cannot take the recipe's clips.
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
