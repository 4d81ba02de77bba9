"""What a kind of released checkpoint is to the importer: a signature, its options, and a reading of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from transfer3d.layout import ClipSpec, Triple
from transfer3d.models.trunks.resnet3d import ResNetSpec

Shapes = Mapping[str, Triple | tuple[int, ...]]
"""Names and shapes of a file's tensors: all that a reading sees."""

Fit = Callable[[Tensor, int], Tensor]
"""(a file's tensor, number of axes wanted) to the same values in our order of axes."""


def add_time(source: Tensor, ndim: int) -> Tensor:
    """Gives a 2D kernel the temporal axis of length 1 that ours has; leaves everything else as it is."""
    return source.unsqueeze(2) if source.ndim == ndim - 1 == 4 else source


@dataclass(frozen=True, kw_only=True)
class Released:
    """What a file holds, as its names and shapes tell.

    Attributes:
        family: of the student.
        spec: its 2D shape.
        model_args: of `create_model`, without `spec`.
        num_classes: K.
        clip: what the released network was made for.
        modules: each module of ours that holds tensors to the file's name of it.
        fits: how tensors of single modules of ours are brought into our order of axes; see `add_time`.
    """

    family: str
    spec: ResNetSpec
    model_args: dict[str, Any]
    num_classes: int
    clip: ClipSpec
    modules: dict[str, str]
    fits: dict[str, Fit] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of released checkpoint.

    Attributes:
        name: on the command line.
        what: whose files they are.
        signature: a tensor that every file of this kind has and no other kind's.
        options: what a state dict cannot say, with its default.
        read: (names and shapes, options) to what the file holds.
    """

    name: str
    what: str
    signature: str
    options: Mapping[str, str]
    read: Callable[[Shapes, Mapping[str, str]], Released]
