"""The part of a training command in which `correspond` and `finetune` differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from transfer3d.data.videoset import VideoSet
from transfer3d.models.student import VideoStudent

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training task, built from a recipe.

    Attributes:
        objective: to be trained.
        student: the objective's student, which is published.
        videos: the training videos.
        summary: returns the lines to print after training, given the last metrics.
        provenance: entries of the published checkpoint, JSON-able.
        class_names: class names of the student; None if unknown.
        identity: digests, besides the data's, that must not change when the run is resumed.
        validate: see `Trainer`.
        held_out: the validation videos.
        training: context around the training steps.
    """

    objective: nn.Module
    student: VideoStudent
    videos: VideoSet
    summary: Callable[[Metrics], Iterable[str]]
    provenance: Mapping[str, Any]
    class_names: list[str] | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    validate: Callable[[], Metrics] | None = None
    held_out: VideoSet | None = None
    training: AbstractContextManager[object] = field(default_factory=nullcontext)
