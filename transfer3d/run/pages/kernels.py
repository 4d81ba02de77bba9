"""Measures and draws a checkpoint's temporal kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.errors import UsageError
from transfer3d.files import sha256_file
from transfer3d.insight.kernels import FREQUENCIES, by_stage, temporal_kernels
from transfer3d.insight.pictures.figure_file import check_figure_path, write_figure
from transfer3d.insight.pictures.kernels import kernel_figure
from transfer3d.models.checkpoint import load
from transfer3d.weights.hub import locate

NO_KERNELS = "none of its convolutions covers several frames or units"


def measure_kernels(file: Path, *, out: Path | None) -> dict[str, Any]:
    """Returns the numbers of every temporal kernel, and their means by stage, JSON-able.

    Args:
        file: checkpoint.
        out: PNG or SVG file for the figure; None = no figure.

    Raises:
        UsageError: `out` is not a figure file, or there is nothing to draw.
        WeightsError: the checkpoint is invalid, or a weight is not finite.
    """
    if out is not None:
        check_figure_path(out)
    student = load(file)
    kernels = temporal_kernels(student)
    stages = by_stage(kernels)
    if out is not None:
        if not stages:
            raise UsageError(f"{file}: {NO_KERNELS}, so there is nothing to draw. Leave out -o.")
        write_figure(kernel_figure(stages, title=f"Temporal kernels of {student.model_name}"), out)
    return {
        "checkpoint": str(file),
        "checkpoint_sha256": sha256_file(locate(file)),
        "model": student.model_name,
        "frequencies": list(FREQUENCIES),
        "stages": [stage.to_dict() for stage in stages],
        "layers": [kernel.to_dict() for kernel in kernels],
    }
