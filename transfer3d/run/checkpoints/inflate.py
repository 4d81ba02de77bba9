"""`transfer3d inflate`: inflates a timm model to a student's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transfer3d.errors import UsageError
from transfer3d.inflation.inflation import Inflated
from transfer3d.inflation.inflation import inflate as inflate_network
from transfer3d.inflation.rules import TemporalInit
from transfer3d.models.checkpoint import save
from transfer3d.models.image import create_image_model
from transfer3d.models.registry import family_of
from transfer3d.recipes.load import key_and_value
from transfer3d.run.output_file import refuse_existing, written_student


@dataclass(frozen=True)
class InflatedFile:
    """An inflated checkpoint on disk, and how it was created."""

    source: str
    weights: str
    path: Path
    inflated: Inflated

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form: the student, its provenance and its weight report."""
        inflated = self.inflated
        return written_student(self.path, inflated.student, inflated.provenance, inflated.weight_report)

    def verdict(self) -> str:
        """Returns the result of the parity check as text."""
        return f"{self.source} -> {self.inflated.student.model_name}. {self.inflated.proof}"

    def text(self, *, tensors: bool) -> str:
        """Returns the weight report by stage or by tensor, the parity check and the file, as lines."""
        lines = [f"{self.source} (weights {self.weights}) -> {self.inflated.student.model_name}"]
        lines += [
            *self.inflated.weight_report.lines(tensors=tensors),
            str(self.inflated.proof),
            f"wrote {self.path}",
        ]
        return "\n".join(lines)


def inflate_to_file(
    model: str,
    to: str,
    out: Path | None,
    *,
    weights: str,
    temporal_init: str = "center",
    frames: int | None = None,
    size: int | None = None,
    family_options: Sequence[str] = (),
    num_classes: int | None = None,
    in_chans: int = 3,
    seed: int = 0,
    force: bool = False,
) -> InflatedFile:
    """Inflates a timm model and writes the student.

    Args:
        model: timm name.
        to: family or student.
        out: the file; None = `./<student>.safetensors`.
        weights: "timm", "none" or a file.
        temporal_init: "center", "mean" or "random".
        frames: number of frames of the student's clips; None = the family's.
        size: H and W of the student's clips; None = see `inflation.inflate`.
        family_options: options of the family, as `key=value`.
        num_classes: number of classes of a new head; None keeps the 2D head.
        in_chans: channels of the input.
        seed: for all random values.
        force: overwrite an existing file.

    Raises:
        UsageError: the file exists and `force` is off, or the family does not support the model.
        WeightsError: the weights are invalid.
        SetupError: the weights cannot be downloaded.
    """
    if out is not None:
        refuse_existing(out, force)
    options = _family_options(to, family_options)
    network = create_image_model(model, weights, in_chans=in_chans, seed=seed)
    inflated = inflate_network(
        network,
        to,
        temporal_init=cast(TemporalInit, temporal_init),
        num_classes=num_classes,
        seed=seed,
        frames=frames,
        size=size,
        **options,
    )
    path = out or Path(f"{inflated.student.model_name}.safetensors")
    refuse_existing(path, force)
    provenance = {"made_by": "inflate", "weights": weights, **inflated.provenance}
    save(inflated.student, path, provenance=provenance)
    return InflatedFile(model, weights, path, inflated)


def _family_options(to: str, settings: Sequence[str]) -> dict[str, Any]:
    options = dict(map(key_and_value, settings))
    known = [name for name in family_of(to).options if name != "frames"] if options else []
    for name in options:
        if name not in known:
            raise UsageError(f"--set {name}: {to} has the options {', '.join(known) or 'none'}.")
    return options
