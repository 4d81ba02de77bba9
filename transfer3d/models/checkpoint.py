"""The portable checkpoint: one safetensors file that says what it is.

Its keys are the student's own `state_dict`; its metadata are strings: `format=pt` and `transfer3d.version`,
`.model`, `.model_args`, `.num_classes`, `.class_names`, `.clip`, `.provenance`, `.digest`. Nothing in it is
ever run, and its header is checked against the network that it names before a tensor is read.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from transfer3d import __version__
from transfer3d.errors import UsageError, WeightsError
from transfer3d.files import atomic_path
from transfer3d.layout import ClipSpec
from transfer3d.models.builder import build_student
from transfer3d.models.registry import entry, families
from transfer3d.models.student import VideoStudent
from transfer3d.weights.digest import tensors_digest
from transfer3d.weights.header import differences, some
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import PREFIX, CheckpointMetadata, read_metadata


def save(
    student: VideoStudent,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes a student as one safetensors file, atomically.

    Args:
        student: on any device, in any dtype.
        path: of the file.
        class_names: in the order of the logits; None = `student.class_names`.
        provenance: JSON-able facts about whence it came.

    Raises:
        UsageError: there are not as many class names as classes.
        SetupError: the file cannot be written.
    """
    class_names = student.class_names if class_names is None else class_names
    if class_names is not None and len(class_names) != student.num_classes:
        raise UsageError(
            f"{len(class_names)} class names for {student.num_classes} classes: give one for each.",
        )
    # channels_last weights are stored in the plain order: a file must not depend on how it was trained.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    metadata = {
        "format": "pt",
        f"{PREFIX}version": __version__,
        f"{PREFIX}model": student.model_name,
        f"{PREFIX}model_args": _to_json(student.model_args),
        f"{PREFIX}num_classes": str(student.num_classes),
        f"{PREFIX}class_names": _to_json(None if class_names is None else list(class_names)),
        f"{PREFIX}clip": _to_json(student.clip.to_dict()),
        f"{PREFIX}provenance": _to_json(dict(provenance or {})),
        f"{PREFIX}digest": tensors_digest(tensors),
    }
    with atomic_path(Path(path)) as partial:
        save_file(tensors, partial, metadata=metadata)


def load(path: str | Path) -> VideoStudent:
    """Builds the student that a checkpoint describes and fills it, in eval mode on the CPU.

    The header is checked against the file's size and the network's shapes. Values that are not finite, and
    tensors that are not those that were written (their digest differs), are warned of: a file may have been
    edited on purpose.

    Args:
        path: a file written by `save`, a folder that holds it as `model.safetensors`, or
            `hf_hub:user/name@revision`.

    Raises:
        WeightsError: the file is missing, damaged, or not the network that it says it is.
        SetupError: the hub cannot be reached.
    """
    file = locate(path)
    return _load(file, read_metadata(file))


def load_into_named(
    path: str | Path,
    name: str,
    *,
    num_classes: int | None,
    clip: ClipSpec | None,
    model_args: Mapping[str, Any],
) -> VideoStudent:
    """What `create_model(name, weights=path)` does; see there."""
    path = locate(path)
    facts = read_metadata(path)
    wanted = name if name in families() else entry(name).name
    if facts.model != wanted:
        raise WeightsError(f"{path}: holds {facts.model}, not {wanted}: name that, or another file.")
    if num_classes not in (None, facts.num_classes):
        raise WeightsError(
            f"{path}: has {facts.num_classes} classes, not {num_classes}: load it, then `reset_classifier`.",
        )
    return _load(path, facts, clip=clip, model_args=model_args)


def _load(
    path: Path,
    facts: CheckpointMetadata,
    *,
    clip: ClipSpec | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> VideoStudent:
    try:
        with torch.device("meta"):  # sizes are compared before any memory is taken
            student = build_student(
                facts.model,
                {**facts.model_args, **(model_args or {})},
                num_classes=facts.num_classes,
                clip=clip or facts.clip,
            )
    except UsageError as error:
        raise WeightsError(f"{path}: its network cannot be built: {error}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in student.state_dict().items()}
    if found := differences(wanted, facts.shapes):
        raise WeightsError(f"{path}: no {facts.model} with {facts.num_classes} classes: tensors {found}.")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: damaged ({error}): copy or write it again.") from error
    odd = [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if odd:
        warnings.warn(f"{path}: NaN or infinite values in {some(odd)}", stacklevel=3)
    if facts.digest not in (None, tensors_digest(tensors)):
        warnings.warn(f"{path}: its tensors are not those that were written: another digest", stacklevel=3)
    student.to_empty(device="cpu")
    student.load_state_dict(tensors, strict=True)
    student.class_names = facts.class_names
    return student.eval()


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
