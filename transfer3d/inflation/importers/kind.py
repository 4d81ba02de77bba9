"""Describes a kind of released checkpoint: its signature, options and tensor names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from transfer3d.layout import ClipSpec, Triple
from transfer3d.models.trunks.spec import TrunkSpec

Shapes = Mapping[str, Triple | tuple[int, ...]]
"""Names and shapes of a file's tensors; `Kind.read` sees nothing else."""

Fit = Callable[[Tensor, int], Tensor]
"""Maps (a tensor of the file, the student's number of axes) to the tensor in the student's axis order."""


def add_time(source: Tensor, ndim: int) -> Tensor:
    """Gives a 2D kernel the student's temporal axis of length 1; returns every other tensor unchanged."""
    return source.unsqueeze(2) if source.ndim == ndim - 1 == 4 else source


def unchanged(state: Mapping[str, Tensor], options: Mapping[str, str]) -> Mapping[str, Tensor]:
    """Returns the tensors of a file unchanged."""
    return state


@dataclass(frozen=True, kw_only=True)
class Released:
    """The content of a file, read from its names and shapes.

    Attributes:
        family: family of the student.
        spec: the 2D architecture.
        model_args: arguments of `create_model`, without `spec`.
        num_classes: K.
        clip: the input that the released network was trained on.
        modules: maps the student's modules that have tensors to their names in the file.
        tensors: maps the student's tensors outside these modules to their names in the file.
        fits: by module of the student, how tensors are brought into its axis order; by default `add_time`.
    """

    family: str
    spec: TrunkSpec
    model_args: dict[str, Any]
    num_classes: int
    clip: ClipSpec
    modules: dict[str, str]
    tensors: dict[str, str] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of released checkpoint.

    Attributes:
        name: on the command line.
        what: description for messages, with the source of these files.
        signature: a tensor name that every file of this kind has, and files of other kinds do not.
        options: settings that a state dict does not contain, with their defaults.
        read: maps (names and shapes, options) to the file's content.
        prepare: joins tensors that are one in the student, under a name that lists them, and adds tensors
            that the released network computes from its options.
    """

    name: str
    what: str
    signature: str
    options: Mapping[str, str]
    read: Callable[[Shapes, Mapping[str, str]], Released]
    prepare: Callable[[Mapping[str, Tensor], Mapping[str, str]], Mapping[str, Tensor]] = unchanged


def classes(shapes: Shapes, classifier: str) -> int:
    """Returns K; 1 if the classifier is missing, which the weight report then lists."""
    return shapes.get(f"{classifier}.weight", (1,))[0]


def channels(shapes: Shapes, stem: str) -> dict[str, int]:
    """Returns `in_chans` for `create_model` if the stem does not take 3 channels."""
    kernel = shapes[f"{stem}.weight"]
    return {} if len(kernel) != 5 or kernel[1] == 3 else {"in_chans": kernel[1]}
