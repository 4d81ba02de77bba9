"""Publishes a run's weights: the student's alone, without objective and teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from transfer3d.data.videoset import VideoSet
from transfer3d.engine.run_folder import RunFolder
from transfer3d.models.checkpoint import save
from transfer3d.models.student import VideoStudent
from transfer3d.objectives.objective import PairwiseObjective

Publish = Callable[[str, Mapping[str, Any]], None]


def name_classes(objective: nn.Module, videos: VideoSet) -> None:
    """Sets the class names of the objective's student from the videos, if their number fits.

    A student that is paired with a teacher is left unchanged: its classes, if any, are the teacher's.
    """
    student = getattr(objective, "student", None)
    if isinstance(objective, PairwiseObjective):
        return
    if isinstance(student, VideoStudent) and len(videos.classes) == student.num_classes > 0:
        student.class_names = list(videos.classes)


def publish_student(
    objective: nn.Module,
    folder: RunFolder | None,
    videos: VideoSet | None,
    name: str,
    metrics: Mapping[str, Any],
    *,
    provenance: Mapping[str, Any] | None = None,
    class_names: list[str] | None = None,
) -> None:
    """Writes the objective's student to `NAME.safetensors` in the run folder.

    Args:
        objective: see `Trainer`; without a `VideoStudent` nothing is written.
        folder: the run's; None = nothing is written.
        videos: the training videos, if known.
        name: "model" or "best".
        metrics: latest metrics.
        provenance: further entries, JSON-able.
        class_names: class names of the student; None = its own names.
    """
    student = getattr(objective, "student", None)
    if folder is None or not isinstance(student, VideoStudent):
        return
    entries = {"made_by": type(objective).__name__, **(provenance or {}), "metrics": dict(metrics)}
    if videos is not None:
        entries["data_digest"] = videos.digest
    save(student, folder.path / f"{name}.safetensors", class_names=class_names, provenance=entries)
