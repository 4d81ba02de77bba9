"""Warm starts: initialises a student from a related one, e.g. a V4D from its I3D-S."""

from __future__ import annotations

from collections.abc import Sequence

from transfer3d.errors import WeightsError
from transfer3d.models.checkpoint import load
from transfer3d.models.student import VideoStudent
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata

HEAD = "head."


def start_from(student: VideoStudent, file: str, class_names: Sequence[str]) -> str:
    """Copies every weight of a checkpoint into a student, and returns a summary line.

    The classifier is copied only if the classes are the same.

    Args:
        student: weights that are not in the file are left unchanged.
        file: a checkpoint.
        class_names: class names of the student.

    Raises:
        WeightsError: the file has weights that do not fit the student.
    """
    source = load(file)
    same_classes = bool(class_names) and read_metadata(locate(file)).class_names == list(class_names)
    current = student.state_dict()
    taken = {
        name: tensor
        for name, tensor in source.state_dict().items()
        if same_classes or not name.startswith(HEAD)
    }
    misfits = [
        name for name, tensor in taken.items() if name not in current or current[name].shape != tensor.shape
    ]
    if misfits:
        raise WeightsError(
            f"{file} ({source.model_name}): {student.model_name} does not fit {len(misfits)} of its "
            f"{len(taken)} tensors, first {misfits[0]}. Start from a file of a related student."
        )
    student.load_state_dict(taken, strict=False)
    fresh = [name for name in current if name not in taken and not name.startswith(HEAD)]
    new = f"{len(fresh)} new, first {fresh[0]}" if fresh else "none new"
    head = "with its head" if same_classes else "a new head"
    return f"start: {len(taken)} tensors of {file} ({source.model_name}), {new}, {head}"
