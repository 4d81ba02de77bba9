"""`create_model`, the function that makes every student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.layout import ClipSpec
from transfer3d.models.builder import build_student
from transfer3d.models.checkpoint import load_into_named
from transfer3d.models.student import VideoStudent


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
    **model_args: Any,
) -> VideoStudent:
    """Builds a student.

    Args:
        name: a registered name, an alias, or a family together with `spec`.
        num_classes: K; by default that of `weights`, else 400; 0 for no classifier.
        weights: a checkpoint of this student, by `transfer3d.save`.
        clip: other facts of the input than the registered ones.
        seed: of the weights' initial values.
        **model_args: `in_chans` (3), `drop_rate` (0), `spec` (a 2D shape in JSON form), the family's options.

    Raises:
        UsageError: no such name, option or value.
        WeightsError: `weights` cannot be read, or belongs to another network.
    """
    if weights is not None:
        return load_into_named(weights, name, num_classes=num_classes, clip=clip, model_args=model_args)
    return build_student(name, model_args, num_classes=num_classes, clip=clip, seed=seed)
