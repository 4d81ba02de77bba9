"""Checks before a command writes a file, and the summary of a written checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer3d.errors import UsageError
from transfer3d.files import refuse_unwritable
from transfer3d.inflation.weight_report import WeightReport
from transfer3d.models.student import VideoStudent


def refuse_existing(path: Path, force: bool) -> None:
    """Checks that `path` can be written.

    Raises:
        UsageError: it exists and `force` is off.
        SetupError: it cannot be written.
    """
    refuse_unwritable(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists. Give another name with -o, or --force to overwrite it.")


def refuse_folder(path: Path, kind: str) -> None:
    """Checks that `path` can be written.

    Raises:
        UsageError: it is a folder; `kind` says what to name instead, e.g. "a JSON file".
        SetupError: it cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name {kind} with -o.")
    refuse_unwritable(path)


def written_student(
    path: Path, student: VideoStudent, provenance: Mapping[str, Any], weight_report: WeightReport
) -> dict[str, Any]:
    """Returns the JSON form of a student on disk, with its provenance and its weight report."""
    return {
        "file": str(path),
        "model": student.model_name,
        "model_args": student.model_args,
        "num_classes": student.num_classes,
        **provenance,
        "tensors": weight_report.to_list(),
    }
