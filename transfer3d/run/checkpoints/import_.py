"""`transfer3d import`: converts a released checkpoint to a student's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transfer3d.errors import UsageError, WeightsError
from transfer3d.files import sha256_file
from transfer3d.inflation.importers.import_state import Imported, find_kind, import_state
from transfer3d.models.checkpoint import save
from transfer3d.run.output_file import refuse_existing, written_student
from transfer3d.weights.preprocessor import PREPROCESSOR, mean_and_std, read_configuration
from transfer3d.weights.state_file import read_state


@dataclass(frozen=True)
class ImportedFile:
    """An imported checkpoint on disk, and its provenance."""

    file: Path
    path: Path
    imported: Imported
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form: the student, its provenance and its weight report."""
        imported = self.imported
        return written_student(self.path, imported.student, self.provenance, imported.weight_report)

    def text(self, *, tensors: bool) -> str:
        """Returns the weight report by stage or by tensor, and the file, as lines."""
        first = f"{self.file} ({self.provenance['kind']}) -> {self.imported.student.model_name}"
        return "\n".join([first, *self.imported.weight_report.lines(tensors=tensors), f"wrote {self.path}"])


def import_to_file(
    kind: str, file: Path, out: Path | None, *, settings: Sequence[str] = (), force: bool = False
) -> ImportedFile:
    """Imports a released checkpoint and writes the student.

    The student takes mean and standard deviation from a `preprocessor_config.json` of transformers beside it.

    Args:
        kind: see `KINDS`.
        file: the released file.
        out: the file to write; None = `./<student>.safetensors`.
        settings: options of the kind, as `key=value`, for settings that are not in the state dict.
        force: overwrite an existing file.

    Raises:
        UsageError: the kind or a setting is unknown, or the file to write exists and `force` is off.
        WeightsError: the file is invalid.
    """
    find_kind(kind)
    options = _parse(settings)
    if out is not None:
        refuse_existing(out, force)
    try:
        imported = import_state(kind, read_state(file), options)
    except WeightsError as error:
        prefix = "" if str(error).startswith(str(file)) else f"{file}: "
        raise WeightsError(f"{prefix}{error}") from error
    beside = file.parent / PREPROCESSOR
    if kind.startswith("transformers-") and beside.is_file():
        mean, std = mean_and_std(read_configuration(beside))
        imported.student.clip = replace(imported.student.clip, mean=mean, std=std)
    path = out or Path(f"{imported.student.model_name}.safetensors")
    refuse_existing(path, force)
    provenance = {
        "made_by": "import",
        "kind": kind,
        "options": options,
        "source": {"file": str(file), "sha256": sha256_file(file)},
        "account": imported.weight_report.counts(),
    }
    save(imported.student, path, provenance=provenance)
    return ImportedFile(file, path, imported, provenance)


def _parse(settings: Sequence[str]) -> dict[str, str]:
    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: give it as key=value, e.g. `--set blocks=A`.")
        options[key.strip()] = value.strip()
    return options
