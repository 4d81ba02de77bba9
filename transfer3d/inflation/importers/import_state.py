"""`import_state`: converts a released state dict to a student that computes the same function.

Every tensor of the file must be used and every tensor of the student filled, else the import fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.inflation.importers.kind import Kind, Released, add_time
from transfer3d.inflation.importers.p3d_pytorch import P3D_PYTORCH
from transfer3d.inflation.importers.pytorchvideo_slow import PYTORCHVIDEO_SLOW
from transfer3d.inflation.importers.t3d_densenet3d import T3D_DENSENET3D
from transfer3d.inflation.importers.torchvision_video import TORCHVISION_VIDEO
from transfer3d.inflation.importers.transformers_videomae import TRANSFORMERS_VIDEOMAE
from transfer3d.inflation.importers.transformers_vits import TRANSFORMERS_TIMESFORMER, TRANSFORMERS_VIVIT
from transfer3d.inflation.importers.v4d_release import V4D_RELEASE
from transfer3d.inflation.weight_report import Row, WeightReport, check_complete
from transfer3d.models.builder import build_student
from transfer3d.models.registry import name_for
from transfer3d.models.student import VideoStudent
from transfer3d.nn.on_meta import give_memory, on_meta
from transfer3d.weights.header import abbreviate, differences, shapes_of
from transfer3d.weights.state_file import warn_of_non_finite

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        P3D_PYTORCH,
        V4D_RELEASE,
        T3D_DENSENET3D,
        PYTORCHVIDEO_SLOW,
        TORCHVISION_VIDEO,
        TRANSFORMERS_VIVIT,
        TRANSFORMERS_VIDEOMAE,
        TRANSFORMERS_TIMESFORMER,
    )
}
COUNTER = r".*\.num_batches_tracked"
"""BatchNorm's counter, missing in files of PyTorch before 0.4.1; eval mode does not use it."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What `import_state` returns.

    Attributes:
        student: in eval mode, on the CPU, in fp32.
        weight_report: what was done with every tensor.
    """

    student: VideoStudent
    weight_report: WeightReport


def import_state(kind: str, state: Mapping[str, Tensor], options: Mapping[str, str]) -> Imported:
    """Builds a student from a released state dict.

    Args:
        kind: a key of `KINDS`.
        state: from `read_state`.
        options: options of the kind; omitted ones have its defaults.

    Raises:
        UsageError: unknown kind or option.
        WeightsError: the file is of another kind or depth, or tensors are missing, extra or of another shape.
    """
    file_kind = find_kind(kind)
    settings = {**file_kind.options, **options}
    for key in options:
        if key not in file_kind.options:
            near = did_you_mean(key, file_kind.options)
            known = ", ".join(file_kind.options) or "none"
            raise UsageError(f"{kind} has no option '{key}'{near}: it has {known}.")
    if file_kind.signature not in state:
        raise WeightsError(_wrong_kind(file_kind, state))
    state = file_kind.prepare(state, settings)
    try:
        released = file_kind.read(shapes_of(state), settings)
    except KeyError as error:
        raise WeightsError(f"not a complete {kind} file: it has no {error}.") from error
    student = _empty_student(released)
    places = _places(student, released)
    fitted = {
        theirs: released.fits.get(name.rpartition(".")[0], add_time)(state[theirs], tensor.ndim)
        for name, tensor in student.state_dict().items()
        if (theirs := places[name]) in state
    }
    _check_shapes(file_kind, student, places, fitted, state)
    give_memory(student)
    report = check_complete(
        _fill(student, places, fitted, state),
        targets=list(student.state_dict()),
        sources=list(state),
        fresh=COUNTER,
        dropped="(?!)",
    )
    warn_of_non_finite(state)
    return Imported(student=student.eval(), weight_report=report)


def find_kind(name: str) -> Kind:
    """Returns the kind of this name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in KINDS:
        near = did_you_mean(name, KINDS)
        table = ", ".join(f"{kind.name} ({kind.what})" for kind in KINDS.values())
        raise UsageError(f"unknown kind of checkpoint '{name}'{near}: the kinds are {table}.")
    return KINDS[name]


def _wrong_kind(kind: Kind, state: Mapping[str, Tensor]) -> str:
    for other in KINDS.values():
        if other.signature in state:
            return f"not a {kind.name} file: it looks like {other.name} ({other.what})."
    return f"not a {kind.name} file: it has no '{kind.signature}', but {abbreviate(list(state))}."


def _empty_student(released: Released) -> VideoStudent:
    """Builds the student on `meta`: shapes are compared before memory is allocated."""
    registered = name_for(released.family, released.spec)
    args = released.model_args if registered else {**released.model_args, "spec": released.spec.to_dict()}
    try:
        with on_meta():
            return build_student(
                registered or released.family, args, num_classes=released.num_classes, clip=released.clip
            )
    except UsageError as error:
        raise WeightsError(f"its network cannot be built: {error}") from error


def _places(student: VideoStudent, released: Released) -> dict[str, str]:
    """Returns, for each tensor of the student, its name in the file."""
    places = {}
    for name in student.state_dict():
        module, _, part = name.rpartition(".")
        places[name] = released.tensors.get(name, f"{released.modules.get(module, module)}.{part}")
    return places


def _check_shapes(
    kind: Kind,
    student: VideoStudent,
    places: Mapping[str, str],
    fitted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> None:
    ours = student.state_dict()
    expected = {
        theirs: tuple(ours[name].shape)
        for name, theirs in places.items()
        if theirs in state or not re.fullmatch(COUNTER, theirs)
    }
    if mismatch := differences(expected, shapes_of({**state, **fitted})):
        raise WeightsError(f"not a complete {kind.name} file of {student.model_name}: tensors {mismatch}.")


@torch.no_grad()
def _fill(
    student: VideoStudent,
    places: Mapping[str, str],
    fitted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> Iterator[Row]:
    for name, target in student.state_dict().items():
        theirs = places[name]
        if theirs not in fitted:
            target.zero_()
            yield Row(target=name, source=None, how="fresh", note="not counted by old PyTorch")
            continue
        target.copy_(fitted[theirs])
        reshaped = state[theirs].shape != target.shape
        yield Row(target=name, source=theirs, how="reshaped" if reshaped else "copied")
