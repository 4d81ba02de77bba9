"""A student that starts from the weights of a related one: a V4D from its I3D-S, a stage from the last."""

from __future__ import annotations

from collections.abc import Sequence

from transfer3d.errors import WeightsError
from transfer3d.models.checkpoint import load
from transfer3d.models.student import VideoStudent
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import read_metadata

HEAD = "head."


def start_from(student: VideoStudent, file: str, class_names: Sequence[str]) -> str:
    """Takes over every weight of a checkpoint, and says in a line what came of it.

    The classifier comes along only where the classes are the same.

    Args:
        student: gets the weights; what the file does not have stays as it is.
        file: a checkpoint.
        class_names: that the student is to tell apart.

    Raises:
        WeightsError: the file has weights that the student has no place for.
    """
    source = load(file)
    same_classes = bool(class_names) and read_metadata(locate(file)).class_names == list(class_names)
    own = student.state_dict()
    taken = {
        name: tensor
        for name, tensor in source.state_dict().items()
        if same_classes or not name.startswith(HEAD)
    }
    strange = [name for name, tensor in taken.items() if name not in own or own[name].shape != tensor.shape]
    if strange:
        raise WeightsError(
            f"{file} ({source.model_name}): {student.model_name} has no place for {len(strange)} of its "
            f"{len(taken)} tensors, first {strange[0]}. Start from a file of a related student.",
        )
    student.load_state_dict(taken, strict=False)
    fresh = [name for name in own if name not in taken and not name.startswith(HEAD)]
    new = f"{len(fresh)} of its own, first {fresh[0]}" if fresh else "none of its own"
    head = "with its head" if same_classes else "a new head"
    return f"start: {len(taken)} tensors of {file} ({source.model_name}), {new}, {head}"
