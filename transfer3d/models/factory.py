"""`create_model`, which builds every student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.builder import build_student
from transfer3d.models.checkpoint import load_named
from transfer3d.models.features import VideoFeatures
from transfer3d.models.student import VideoStudent


@overload
def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
    features_only: Literal[False] = False,
    **model_args: Any,
) -> VideoStudent: ...


@overload
def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
    features_only: Literal[True],
    out_indices: int | Sequence[int] | None = None,
    **model_args: Any,
) -> VideoFeatures: ...


def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    clip: ClipSpec | None = None,
    seed: int = 0,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    **model_args: Any,
) -> VideoStudent | VideoFeatures:
    """Builds a student.

    Args:
        name: a registered name, an alias, or a family together with `spec`.
        num_classes: K; by default that of `weights`, else 400; 0 for no classifier.
        pretrained: must be False: there are no pretrained students.
        weights: a checkpoint of this student, written by `transfer3d.save`.
        clip: replaces the registered input specification.
        seed: for the initial weights.
        features_only: return a module that outputs a list of feature maps instead of logits.
        out_indices: which maps, like `indices` of `VideoStudent.forward_intermediates`.
        **model_args: `in_chans` (3), `drop_rate` (0), `global_pool` ("avg"), `spec` (the 2D architecture in
            JSON), the family's options; for a registered module the arguments of its class.

    Raises:
        UsageError: no such name, option or value.
        WeightsError: `weights` cannot be read, or belongs to another network.
    """
    if pretrained:
        raise UsageError(
            "no student is pretrained: pass a checkpoint as `weights`, or inflate an image model, "
            f"transfer3d.inflate(timm.create_model(..., pretrained=True), '{name}')."
        )
    if weights is None:
        student = build_student(name, model_args, num_classes=num_classes, clip=clip, seed=seed)
    else:
        student = load_named(weights, name, num_classes=num_classes, clip=clip, model_args=model_args)
    return VideoFeatures(student, out_indices) if features_only else student
