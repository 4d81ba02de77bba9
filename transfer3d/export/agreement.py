"""Checks that an exported network has the student's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transfer3d.errors import WeightsError
from transfer3d.models.student import VideoStudent

Runner = Callable[[list[Tensor]], list[Tensor]]
"""Runs an exported network: maps inputs to outputs."""
TOLERANCE = 1e-4
MORE_FRAMES = 3


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The difference between the exported network's outputs and the student's.

    Attributes:
        difference: the largest norm(exported - student) / norm(student) over the inputs.
        shapes: shapes of the inputs.
        open_axes: names of the input axes with dynamic size.
        tolerance: the largest difference allowed.
    """

    difference: float
    shapes: tuple[tuple[int, ...], ...]
    open_axes: tuple[str, ...]
    tolerance: float = TOLERANCE

    def __str__(self) -> str:
        """Summarises the comparison in one sentence."""
        shapes = " and ".join("x".join(map(str, shape)) for shape in self.shapes)
        return (
            f"Checked on random clips {shapes}: largest relative difference {self.difference:.1e} "
            f"(tolerance {self.tolerance:.0e}); dynamic axes: {', '.join(self.open_axes)}."
        )


def random_clips(student: VideoStudent, *, batch: int, more_frames: int = 0, seed: int = 0) -> Tensor:
    """Returns a random input of the student's shape, `B C T H W` or `B U C T H W`."""
    shape = replace(student.clip, frames=student.clip.frames + more_frames).shape(batch)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def compare(student: VideoStudent, run: Runner, *, open_axes: Mapping[int, str]) -> Agreement:
    """Compares on one clip of the student's shape and on three clips, longer ones if T is variable.

    Args:
        student: the original.
        run: the exported network, mapping inputs to outputs.
        open_axes: the input axes with dynamic size, by name.

    Raises:
        WeightsError: the outputs differ by more than the tolerance, or cannot be compared.
    """
    more = MORE_FRAMES if "frames" in open_axes.values() else 0
    clips = [random_clips(student, batch=1), random_clips(student, batch=3, more_frames=more, seed=1)]
    differences = []
    for exported, original in zip(run(clips), [student(tensor) for tensor in clips], strict=True):
        norm = original.norm().item()
        if exported.shape != original.shape or not 0 < norm < float("inf"):
            raise WeightsError(
                f"the student's output is {tuple(original.shape)} of norm {norm}, the exported network's "
                f"{tuple(exported.shape)}: nothing to compare."
            )
        differences.append((exported - original).norm().item() / norm)
    difference = max(differences)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the exported network's outputs differ by {difference:.1e} (tolerance {TOLERANCE:.0e}): "
            "no file was written."
        )
    return Agreement(
        difference=difference,
        shapes=tuple(tuple(tensor.shape) for tensor in clips),
        open_axes=tuple(open_axes.values()),
    )
