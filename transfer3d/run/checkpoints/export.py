"""`transfer3d export`: exports a checkpoint to files for other programs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.export.agreement import Agreement
from transfer3d.export.hub_folder import write_hub_folder
from transfer3d.export.model_card import NO_INFO, CardInfo
from transfer3d.export.onnx import write_onnx
from transfer3d.export.openvino import SUFFIX as OPENVINO_SUFFIX
from transfer3d.export.openvino import WEIGHTS_SUFFIX, write_openvino
from transfer3d.export.preprocessing import METADATA_KEY, SIDECAR_NAME, preprocessing
from transfer3d.export.program import SUFFIX, write_program
from transfer3d.export.push import check_repository, push
from transfer3d.export.quantisation import QuantisationLoss
from transfer3d.files import MAX_JSON_BYTES, read_regular, write_text
from transfer3d.models.checkpoint import load
from transfer3d.run.checkpoints.int8 import write_int8
from transfer3d.run.output_file import refuse_existing
from transfer3d.weights.metadata import exported_strings, read_metadata
from transfer3d.weights.provenance import Provenance

SUFFIXES = {"onnx": ".onnx", "torch": SUFFIX, "openvino": OPENVINO_SUFFIX, "hub": "-hub"}


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """The result of an export.

    Attributes:
        format: "onnx", "torch", "openvino" or "hub".
        path: file or folder.
        files: the files written.
        agreement: with the student's outputs; None for a Hub folder, which has the student itself, and for
            int8.
        int8: the quantisation loss; None if nothing was quantised.
        pushed: where the Hub folder was uploaded to; None if it was not.
    """

    format: str
    path: Path
    files: tuple[Path, ...]
    agreement: Agreement | None = None
    int8: QuantisationLoss | None = None
    pushed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {
            "format": self.format,
            "path": str(self.path),
            "files": [str(file) for file in self.files],
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "int8": None if self.int8 is None else asdict(self.int8),
            "pushed": self.pushed,
        }

    def __str__(self) -> str:
        """Lists the agreement or the quantisation loss, and the files."""
        checks = [str(check) for check in (self.agreement, self.int8) if check is not None]
        pushed = [] if self.pushed is None else [f"pushed to {self.pushed}"]
        return "\n".join([*checks, *(f"wrote {file}" for file in self.files), *pushed])


def export_checkpoint(
    checkpoint: str,
    format: str,
    out: Path | None,
    *,
    force: bool = False,
    provenance: str = "short",
    int8: str | None = None,
    info: CardInfo = NO_INFO,
    repository: str | None = None,
) -> ExportedFile:
    """Exports a checkpoint, and writes `preprocess.json` beside it, which describes the preprocessing.

    If a `preprocess.json` of another model exists, `<stem of out>.preprocess.json` is written instead.

    Args:
        checkpoint: file, Hub folder, or `hf_hub:user/name@revision`.
        format: "onnx", "torch", "openvino" or "hub".
        out: None = `./<student>.onnx`, `./<student>.pt2`, `./<student>.xml` or the folder `./<student>-hub`.
        force: overwrite.
        provenance: "short" omits the recipe and every path; "full" keeps everything.
        int8: videos to calibrate int8 on, for OpenVINO; None keeps fp32.
        info: entries of a Hub folder's model card that are not in the checkpoint.
        repository: `user/name`, to which a Hub folder is uploaded; None = no upload.

    Raises:
        UsageError: the format is unknown, or `out` exists and `force` is off.
        WeightsError: the checkpoint is invalid, or the exported network's outputs differ.
        DataError: a video of `int8` cannot be decoded.
        SetupError: the format's extra is missing, `out` cannot be written, or the hub refuses the folder.
    """
    if format not in SUFFIXES:
        near = did_you_mean(format, SUFFIXES)
        raise UsageError(f"unknown format '{format}'{near}: must be one of {', '.join(SUFFIXES)}.")
    if provenance not in get_args(Provenance):
        raise UsageError(f"--provenance {provenance}: must be one of {', '.join(get_args(Provenance))}.")
    if int8 is not None and format != "openvino":
        raise UsageError(f"--int8 is for --format openvino, not {format}.")
    if format != "hub" and (repository is not None or info != NO_INFO):
        raise UsageError(f"--push, --license and --dataset are for --format hub, not {format}.")
    if repository is not None:
        check_repository(repository)
    known = cast(Provenance, provenance)
    student = load(checkpoint)
    path = out or Path(f"{student.model_name}{SUFFIXES[format]}")
    refuse_existing(path, force)
    if format == "openvino":
        refuse_existing(path.with_suffix(WEIGHTS_SUFFIX), force)
    if format == "hub":
        files = tuple(write_hub_folder(checkpoint, path, provenance=known, info=info))
        pushed = None if repository is None else push(path, [file.name for file in files], repository)
        return ExportedFile(format=format, path=path, files=files, pushed=pushed)
    text = json.dumps(preprocessing(read_metadata(checkpoint)), indent=2) + "\n"
    sidecar = path.with_name(SIDECAR_NAME)
    if os.path.lexists(sidecar) and not force and not _holds(sidecar, text):
        sidecar = path.with_name(f"{path.stem}.{SIDECAR_NAME}")  # the first is another model's
    strings = {**exported_strings(checkpoint, known), METADATA_KEY: text}
    agreement = loss = None
    if int8 is not None:
        loss = write_int8(student, path, strings, int8)
    else:
        write = {"onnx": write_onnx, "torch": write_program, "openvino": write_openvino}[format]
        agreement = write(student, path, strings)
    write_text(sidecar, text)
    weights = (path.with_suffix(WEIGHTS_SUFFIX),) if format == "openvino" else ()
    return ExportedFile(
        format=format, path=path, files=(path, *weights, sidecar), agreement=agreement, int8=loss
    )


def _holds(file: Path, text: str) -> bool:
    """Whether a file exists and holds this text."""
    try:
        return read_regular(file, MAX_JSON_BYTES) == text.encode()
    except (OSError, ValueError):
        return False
