"""The metadata of a checkpoint, a self-describing safetensors file.

Its tensors are the student's `state_dict`. Its metadata are strings: `format=pt` and `transfer3d.version`,
`.model`, `.model_args`, `.num_classes`, `.class_names`, `.clip`, `.provenance` and `.digest`; and
`.multi_label` for a multi-label student.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from transfer3d import __version__
from transfer3d.errors import WeightsError
from transfer3d.files import parse_json
from transfer3d.text import problem
from transfer3d.weights.header import read_header
from transfer3d.weights.hub import locate
from transfer3d.weights.provenance import Provenance, public_provenance
from transfer3d.weights.schema import CheckpointMetadata

PREFIX = "transfer3d."
PLAIN = ("version", "model", "digest")
JSON = ("model_args", "num_classes", "class_names", "multi_label", "clip", "provenance")


def metadata_to_strings(**metadata: Any) -> dict[str, str]:
    """Returns a student's metadata as strings for the header: JSON, except for plain strings.

    Args:
        **metadata: fields of `CheckpointMetadata`, without version and shapes.
    """
    strings = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in metadata.items()
    }
    return {
        "format": "pt",
        **{f"{PREFIX}{key}": text for key, text in ({"version": __version__} | strings).items()},
    }


def read_metadata(path: str | Path) -> CheckpointMetadata:
    """Reads the metadata of a checkpoint.

    Args:
        path: as for `load`.

    Raises:
        WeightsError: the file does not exist, is damaged, or was not written by transfer3d.
    """
    path = locate(path)
    strings, shapes = read_header(path)
    if f"{PREFIX}model" not in strings:
        raise WeightsError(
            f"{path}: a safetensors file, but not a transfer3d checkpoint: `transfer3d import` reads others."
        )
    try:
        fields: dict[str, Any] = {
            key.removeprefix(PREFIX): text for key, text in strings.items() if key.startswith(PREFIX)
        }
        fields = {name: fields[name] for name in (*PLAIN, *JSON) if name in fields}
        for name in JSON:
            if name in fields:
                fields[name] = parse_json(fields[name], untrusted=True)
        return CheckpointMetadata(**fields, shapes=shapes)
    except ValueError as error:
        reason = problem(error.errors()[0]) if isinstance(error, ValidationError) else error
        raise WeightsError(
            f"{path}: its metadata do not describe a student ({reason}): write it again."
        ) from error


def exported_strings(path: str | Path, provenance: Provenance = "short") -> dict[str, str]:
    """Returns the metadata of an export: the `transfer3d.*` entries of a checkpoint's header.

    Args:
        path: as for `load`.
        provenance: "short" omits the recipe and every path; see `public_provenance`.

    Raises:
        WeightsError: see `read_metadata`.
    """
    path = locate(path)
    metadata = read_metadata(path)
    strings = {key: value for key, value in read_header(path)[0].items() if key.startswith(PREFIX)}
    if provenance == "short":
        short = public_provenance(metadata.provenance)
        strings[f"{PREFIX}provenance"] = json.dumps(short, sort_keys=True)
    return strings
