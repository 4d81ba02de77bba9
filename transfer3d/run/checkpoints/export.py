"""`transfer3d export`: exports a checkpoint to files for other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.export.agreement import Agreement
from transfer3d.export.hub_folder import write_hub_folder
from transfer3d.export.onnx import write_onnx
from transfer3d.export.program import SUFFIX, write_program
from transfer3d.models.checkpoint import load
from transfer3d.run.output_file import refuse_existing
from transfer3d.weights.metadata import metadata_strings

SUFFIXES = {"onnx": ".onnx", "torch": SUFFIX, "hub": "-hub"}


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """What was written.

    Attributes:
        format: "onnx", "torch" or "hub".
        path: file or folder.
        files: the files written.
        agreement: with the student's outputs; None for a Hub folder, which holds the student itself.
    """

    format: str
    path: Path
    files: tuple[Path, ...]
    agreement: Agreement | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {
            "format": self.format,
            "path": str(self.path),
            "files": [str(file) for file in self.files],
            "agreement": None if self.agreement is None else asdict(self.agreement),
        }

    def __str__(self) -> str:
        """The agreement and the files, as lines."""
        lines = [f"wrote {file}" for file in self.files]
        return "\n".join([*([] if self.agreement is None else [str(self.agreement)]), *lines])


def export_checkpoint(checkpoint: str, format: str, out: Path | None, *, force: bool = False) -> ExportedFile:
    """Exports a checkpoint.

    Args:
        checkpoint: file, Hub folder, or `hf_hub:user/name@revision`.
        format: "onnx", "torch" or "hub".
        out: None = `./<student>.onnx`, `./<student>.pt2` or the folder `./<student>-hub`.
        force: overwrite.

    Raises:
        UsageError: the format is unknown, or `out` exists and `force` is off.
        WeightsError: the checkpoint is refused, or the exported network gives other outputs.
        SetupError: the `export` extra is missing for ONNX, or `out` cannot be written.
    """
    if format not in SUFFIXES:
        near = did_you_mean(format, SUFFIXES)
        raise UsageError(f"unknown format '{format}'{near}: must be one of {', '.join(SUFFIXES)}.")
    student = load(checkpoint)
    path = out or Path(f"{student.model_name}{SUFFIXES[format]}")
    refuse_existing(path, force)
    if format == "hub":
        files = tuple(write_hub_folder(checkpoint, path))
        return ExportedFile(format=format, path=path, files=files, agreement=None)
    write = write_onnx if format == "onnx" else write_program
    agreement = write(student, path, metadata_strings(checkpoint))
    return ExportedFile(format=format, path=path, files=(path,), agreement=agreement)
