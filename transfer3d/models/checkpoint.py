"""Saves and loads a student as one self-describing safetensors file (`weights.metadata`).

Nothing in the file is executed. Its header is checked against the network that it names before a tensor is
read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from transfer3d.errors import UsageError, WeightsError
from transfer3d.files import atomic_path
from transfer3d.layout import ClipSpec
from transfer3d.models.builder import build_student
from transfer3d.models.registry import entry, families, family_of
from transfer3d.models.student import VideoStudent
from transfer3d.nn.on_meta import give_memory, on_meta
from transfer3d.text import shortened
from transfer3d.weights.digest import tensors_digest
from transfer3d.weights.header import abbreviate, differences, shapes_of
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import CheckpointMetadata, metadata_to_strings, read_metadata
from transfer3d.weights.state_file import warn_of_non_finite

LONGEST_REASON = 1000
"""Maximum length of the reason why a network cannot be built: it may quote the file."""


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
        path: path of the file.
        class_names: in the order of the logits; None = `student.class_names`.
        provenance: JSON-able record of how the weights were made.

    Raises:
        UsageError: the number of class names differs from the number of classes.
        SetupError: the file cannot be written.
    """
    class_names = student.class_names if class_names is None else class_names
    if class_names is not None and len(class_names) != student.num_classes:
        raise UsageError(
            f"{len(class_names)} class names for {student.num_classes} classes: give one for each."
        )
    # channels_last weights are stored contiguously: a file must not depend on the memory format of training.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    metadata = metadata_to_strings(
        model=student.model_name,
        model_args=student.model_args,
        num_classes=student.num_classes,
        class_names=None if class_names is None else list(class_names),
        clip=student.clip.to_dict(),
        provenance=dict(provenance or {}),
        digest=tensors_digest(tensors),
        **({"multi_label": True} if student.multi_label else {}),
    )
    with atomic_path(Path(path)) as partial:
        save_file(tensors, partial, metadata=metadata)


def load(path: str | Path) -> VideoStudent:
    """Builds the student that a checkpoint describes and loads its weights, in eval mode on the CPU.

    The header is checked against the file's size and the network's shapes. Values that are not finite, and
    tensors whose digest differs from the recorded one, only give a warning: a file may have been edited on
    purpose.

    Args:
        path: a file written by `save`, a folder that contains it as `model.safetensors`, or
            `hf_hub:user/name@revision`.

    Raises:
        WeightsError: the file is missing, damaged, or does not fit the network that it names.
        SetupError: the hub cannot be reached.
    """
    file = locate(path)
    return _load(file, read_metadata(file))


def load_named(
    path: str | Path,
    name: str,
    *,
    num_classes: int | None,
    clip: ClipSpec | None,
    model_args: Mapping[str, Any],
) -> VideoStudent:
    """Implements `create_model(name, weights=path)`."""
    path = locate(path)
    metadata = read_metadata(path)
    named = name if name in families() else entry(name).name
    if metadata.model != named:
        raise WeightsError(f"{path}: holds {metadata.model}, not {named}: name that, or another file.")
    if num_classes not in (None, metadata.num_classes):
        raise WeightsError(
            f"{path}: has {metadata.num_classes} classes, not {num_classes}: load it and `reset_classifier`."
        )
    return _load(path, metadata, clip=clip, model_args=model_args)


def _load(
    path: Path,
    metadata: CheckpointMetadata,
    *,
    clip: ClipSpec | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> VideoStudent:
    try:
        student = _build(metadata, clip or metadata.clip, {**metadata.model_args, **(model_args or {})})
    except UsageError as error:
        reason = shortened(str(error), LONGEST_REASON)
        raise WeightsError(f"{path}: its network cannot be built: {reason}") from error
    if difference := _differences(student, metadata):
        raise WeightsError(
            f"{path}: no {metadata.model} with {metadata.num_classes} classes: tensors {difference}."
        )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: damaged ({error}): copy or write it again.") from error
    expected = student.state_dict()
    kinds = [n for n, t in tensors.items() if t.is_floating_point() != expected[n].is_floating_point()]
    if kinds:
        raise WeightsError(
            f"{path}: not the weights of {metadata.model}: {abbreviate(kinds)} are {tensors[kinds[0]].dtype}."
        )
    warn_of_non_finite(tensors, f"{path}: ")
    if metadata.digest not in (None, tensors_digest(tensors)):
        warnings.warn(f"{path}: its tensors were changed after saving: their digest differs", stacklevel=3)
    if family_of(metadata.model).clips:
        student = _on_cpu(student)
    student.load_state_dict(tensors, strict=True)
    student.class_names, student.multi_label = metadata.class_names, metadata.multi_label
    return student.eval()


def _build(metadata: CheckpointMetadata, clip: ClipSpec, model_args: Mapping[str, Any]) -> VideoStudent:
    """Builds the network of a file: on the meta device, but a user's registered module on the CPU."""
    family = family_of(metadata.model)

    def build(arguments: Mapping[str, Any]) -> VideoStudent:
        # Shapes are compared before memory is allocated. A user's module may hold tensors that its state_dict
        # lacks, so it is built with values.
        with on_meta() if family.clips else torch.device("cpu"):
            return build_student(metadata.model, arguments, num_classes=metadata.num_classes, clip=clip)

    student = build(model_args)
    if family.earlier_options and _differences(student, metadata):
        earlier = build(family.earlier_options(student.trunk, model_args))
        return student if _differences(earlier, metadata) else earlier
    return student


def _on_cpu(student: VideoStudent) -> VideoStudent:
    """Moves a student from the meta device to the CPU, with the values of its non-persistent buffers.

    Such buffers, for example rotary angles, are computed when a network is built: then it is built again.
    """
    held = {id(tensor) for tensor in student.state_dict(keep_vars=True).values()}
    if all(id(buffer) in held for buffer in student.buffers()):
        return give_memory(student)
    return build_student(
        student.model_name, student.model_args, num_classes=student.num_classes, clip=student.clip
    )


def _differences(student: VideoStudent, metadata: CheckpointMetadata) -> str:
    """Describes missing, unexpected and misshaped tensors; "" if there are none."""
    return differences(shapes_of(student.state_dict()), metadata.shapes)
