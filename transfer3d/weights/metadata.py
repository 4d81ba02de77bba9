"""The metadata of a checkpoint: one safetensors file that describes itself.

Its tensors are the student's `state_dict`. Its metadata are strings: `format=pt` and `transfer3d.version`,
`.model`, `.model_args`, `.num_classes`, `.class_names`, `.clip`, `.provenance` and `.digest`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer3d import __version__
from transfer3d.errors import WeightsError
from transfer3d.layout import ClipSpec
from transfer3d.weights.bounds import check_classes, check_clip, check_model_args, parse
from transfer3d.weights.header import read_header
from transfer3d.weights.hub import locate

PREFIX = "transfer3d."


@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """What a checkpoint says about itself, read without its tensors.

    Attributes:
        version: of transfer3d, when it was written.
        model: `VideoStudent.model_name`.
        model_args: `VideoStudent.model_args`.
        num_classes: K.
        class_names: in the order of the logits; None when they are not known.
        clip: the network's input.
        provenance: where it came from: teacher, source weights, recipe, data, metrics, proof.
        digest: `tensors_digest` of the tensors when they were written; None in files of older versions.
        shapes: of every tensor.
    """

    version: str
    model: str
    model_args: dict[str, Any]
    num_classes: int
    class_names: list[str] | None
    clip: ClipSpec
    provenance: dict[str, Any]
    digest: str | None
    shapes: dict[str, tuple[int, ...]] = field(repr=False)


def metadata_to_strings(**metadata: Any) -> dict[str, str]:
    """Returns the header's form of a student's metadata: JSON, but for plain strings.

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
    """Reads what a checkpoint says about itself.

    Args:
        path: as for `load`.

    Raises:
        WeightsError: there is no such file, it is damaged, or transfer3d did not write it.
    """
    path = locate(path)
    strings, shapes = read_header(path)
    if f"{PREFIX}model" not in strings:
        raise WeightsError(
            f"{path}: a safetensors file, but not a transfer3d checkpoint: `transfer3d import` reads others.",
        )
    try:
        fields = ("model_args", "num_classes", "class_names", "clip", "provenance")
        values = {name: parse(strings[f"{PREFIX}{name}"]) for name in fields}
        for name in ("model_args", "clip", "provenance"):
            if not isinstance(values[name], dict):
                raise ValueError(f"{name} is not a table")
        check_classes(values["num_classes"], values["class_names"])
        check_model_args(values["model_args"], len(shapes))
        check_clip(values["clip"])
        return CheckpointMetadata(
            version=strings[f"{PREFIX}version"],
            model=strings[f"{PREFIX}model"],
            model_args=values["model_args"],
            num_classes=values["num_classes"],
            class_names=values["class_names"],
            clip=ClipSpec.from_dict(values["clip"]),
            provenance=values["provenance"],
            digest=strings.get(f"{PREFIX}digest"),
            shapes=shapes,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"{path}: its metadata do not describe a student ({error}): write it again."
        ) from error


def metadata_strings(path: str | Path) -> dict[str, str]:
    """Returns what a checkpoint says about itself in the file's own strings, only the `transfer3d.*` entries.

    Raises:
        WeightsError: see `read_metadata`.
    """
    read_metadata(path)
    strings, _ = read_header(locate(path))
    return {key: value for key, value in strings.items() if key.startswith(PREFIX)}
