"""`import_state`: a released state dict in, a student that computes the same function out.

Every tensor of the file finds its place and every tensor of the student its value, or nothing is made.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.inflation.account import Account, Row, close
from transfer3d.inflation.importers.kind import Kind, Released, add_time
from transfer3d.inflation.importers.p3d_pytorch import P3D_PYTORCH
from transfer3d.inflation.importers.pytorchvideo_slow import PYTORCHVIDEO_SLOW
from transfer3d.inflation.importers.torchvision_video import TORCHVISION_VIDEO
from transfer3d.inflation.importers.v4d_release import V4D_RELEASE
from transfer3d.models.builder import build_student
from transfer3d.models.registry import name_for
from transfer3d.models.student import VideoStudent
from transfer3d.weights.header import differences, some
from transfer3d.weights.state_file import is_finite

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (P3D_PYTORCH, V4D_RELEASE, PYTORCHVIDEO_SLOW, TORCHVISION_VIDEO)
}
COUNTER = r".*\.num_batches_tracked"
"""PyTorch before 0.4.1 did not count batches; eval mode does not look at it."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What `import_state` gives.

    Attributes:
        student: in eval mode, on the CPU, in fp32.
        account: every tensor's way.
    """

    student: VideoStudent
    account: Account


def import_state(kind: str, state: Mapping[str, Tensor], options: Mapping[str, str]) -> Imported:
    """Makes a student of a released state dict.

    Args:
        kind: a key of `KINDS`.
        state: as `read_state` gives it.
        options: of the kind, where they are not its defaults.

    Raises:
        UsageError: no such kind or option.
        WeightsError: the file is of another kind or depth, or tensors are missing, extra or of another shape.
    """
    found = find_kind(kind)
    for key in options:
        if key not in found.options:
            near = did_you_mean(key, found.options)
            known = ", ".join(found.options) or "none"
            raise UsageError(f"{kind} has no option '{key}'{near}: it has {known}.")
    if found.signature not in state:
        raise WeightsError(_wrong_kind(found, state))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    released = found.read(shapes, {**found.options, **options})
    student = _empty_student(released)
    places = _places(student, released)
    fitted = {
        theirs: released.fits.get(ours.rpartition(".")[0], add_time)(state[theirs], student_ndim)
        for ours, (theirs, student_ndim) in places.items()
        if theirs in state
    }
    _compare(found, student, places, fitted, state)
    student.to_empty(device="cpu")
    account = close(
        _fill(student, places, fitted, state),
        targets=list(student.state_dict()),
        sources=list(state),
        fresh=COUNTER,
        dropped="(?!)",
    )
    odd = [name for name, tensor in state.items() if not is_finite(tensor)]
    if odd:
        warnings.warn(f"NaN or infinite values in {some(odd)}", stacklevel=2)
    return Imported(student=student.eval(), account=account)


def find_kind(name: str) -> Kind:
    """Returns a kind.

    Raises:
        UsageError: there is no such kind.
    """
    if name not in KINDS:
        near = did_you_mean(name, KINDS)
        table = ", ".join(f"{kind.name} ({kind.what})" for kind in KINDS.values())
        raise UsageError(f"no kind of checkpoint '{name}'{near}: known are {table}.")
    return KINDS[name]


def _wrong_kind(wanted: Kind, state: Mapping[str, Tensor]) -> str:
    for other in KINDS.values():
        if other.signature in state:
            return f"no {wanted.name} file: it looks like {other.name} ({other.what})."
    return f"no {wanted.name} file: it has no '{wanted.signature}', but {some(list(state))}."


def _empty_student(released: Released) -> VideoStudent:
    """Builds the student on `meta`: shapes are compared before any memory is taken."""
    named = name_for(released.family, released.spec)
    args = released.model_args if named else {**released.model_args, "spec": released.spec.to_dict()}
    try:
        with torch.device("meta"):
            return build_student(
                named or released.family, args, num_classes=released.num_classes, clip=released.clip
            )
    except UsageError as error:
        raise WeightsError(f"its network cannot be built: {error}") from error


def _places(student: VideoStudent, released: Released) -> dict[str, tuple[str, int]]:
    """Returns for each tensor of the student the file's name of it, and its number of axes."""
    places = {}
    for name, tensor in student.state_dict().items():
        module, _, part = name.rpartition(".")
        places[name] = (f"{released.modules.get(module, module)}.{part}", tensor.ndim)
    return places


def _compare(
    kind: Kind,
    student: VideoStudent,
    places: Mapping[str, tuple[str, int]],
    fitted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> None:
    ours = student.state_dict()
    wanted = {
        theirs: tuple(ours[name].shape)
        for name, (theirs, _) in places.items()
        if theirs in state or not re.fullmatch(COUNTER, theirs)
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in {**state, **fitted}.items()}
    if found := differences(wanted, shapes):
        raise WeightsError(f"no whole {kind.name} file of {student.model_name}: tensors {found}.")


@torch.no_grad()
def _fill(
    student: VideoStudent,
    places: Mapping[str, tuple[str, int]],
    fitted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> Iterator[Row]:
    for name, target in student.state_dict().items():
        theirs, _ = places[name]
        if theirs not in fitted:
            target.zero_()
            yield Row(target=name, source=None, how="fresh", note="not counted by old PyTorch")
            continue
        target.copy_(fitted[theirs])
        reshaped = state[theirs].shape != target.shape
        yield Row(target=name, source=theirs, how="reshaped" if reshaped else "copied")
