"""`transfer3d info`: describes a checkpoint and its provenance, and checks its digests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from transfer3d.files import sha256_file
from transfer3d.models.checkpoint import load
from transfer3d.models.measure import count_parameters
from transfer3d.models.registry import family_of
from transfer3d.weights.digest import tensors_digest
from transfer3d.weights.hub import WEIGHTS_NAME, locate
from transfer3d.weights.metadata import CheckpointMetadata, read_metadata
from transfer3d.weights.provenance import HUB_ADDRESSES, file_holds

MAX_SOURCES = 20
"""Maximum number of files checked; a damaged header could name thousands."""
Verdict = Literal["holds", "differs", "not recorded", "not here", "not checked"]


@dataclass(frozen=True, kw_only=True)
class DigestCheck:
    """A digest that a checkpoint records, and the result of checking it.

    Attributes:
        what: "tensors", or a file that the checkpoint was made from.
        recorded: sha256, in hex.
        verdict: `not here` if that file does not exist on this machine, or is not one to read;
            `not checked` if it is on the hub.
    """

    what: str
    recorded: str | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class CheckpointReport:
    """What `transfer3d info` prints.

    Attributes:
        file: the weights file.
        sha256: sha256 of its bytes.
        bytes: its size.
        parameters: number of parameters, head included.
        metadata: metadata of the file.
        digests: digests of the tensors, then of the files it was made from.
    """

    file: Path
    sha256: str
    bytes: int
    parameters: int
    metadata: CheckpointMetadata
    digests: tuple[DigestCheck, ...]

    @property
    def intact(self) -> bool:
        """Whether the tensors match the recorded digest, if there is one."""
        return self.digests[0].verdict != "differs"

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        metadata = self.metadata
        return {
            "file": str(self.file),
            "sha256": self.sha256,
            "bytes": self.bytes,
            "model": metadata.model,
            "family": family_of(metadata.model).name,
            "paper": family_of(metadata.model).paper,
            "model_args": metadata.model_args,
            "parameters": self.parameters,
            "tensors": len(metadata.shapes),
            "num_classes": metadata.num_classes,
            "class_names": metadata.class_names,
            "clip": metadata.clip.to_dict(),
            "version": metadata.version,
            "provenance": metadata.provenance,
            "digests": [asdict(check) for check in self.digests],
        }


def inspect_checkpoint(path: str) -> CheckpointReport:
    """Reads a checkpoint, tensors included, and checks every digest whose file exists on this machine.

    Args:
        path: file, Hub folder, or `hf_hub:user/name@revision`.

    Raises:
        WeightsError: the file is missing or damaged, or its tensors do not fit its metadata.
    """
    file = locate(path)
    metadata, student = read_metadata(file), load(file)
    verdict: Verdict = "not recorded"
    if metadata.digest is not None:
        verdict = "holds" if tensors_digest(student.state_dict()) == metadata.digest else "differs"
    return CheckpointReport(
        file=file,
        sha256=sha256_file(file),
        bytes=file.stat().st_size,
        parameters=count_parameters(student),
        metadata=metadata,
        digests=(
            DigestCheck(what="tensors", recorded=metadata.digest, verdict=verdict),
            *islice(_sources(metadata.provenance, set()), MAX_SOURCES),
        ),
    )


def _verdict(name: str, recorded: str) -> Verdict:
    if name.startswith(HUB_ADDRESSES):
        return "not checked"
    path = Path(name)
    holds = file_holds(path / WEIGHTS_NAME if path.is_dir() else path, recorded)
    return "not here" if holds is None else "holds" if holds else "differs"


def _sources(node: Any, checked: set[tuple[str, str]]) -> Iterator[DigestCheck]:
    """Checks each file in the provenance against its sha256, once."""
    if isinstance(node, list):
        for item in node:
            yield from _sources(item, checked)
    if not isinstance(node, dict):
        return
    name, recorded = node.get("file") or node.get("checkpoint"), node.get("sha256")
    if isinstance(name, str) and isinstance(recorded, str) and (name, recorded) not in checked:
        checked.add((name, recorded))
        yield DigestCheck(what=name, recorded=recorded, verdict=_verdict(name, recorded))
    for value in node.values():
        yield from _sources(value, checked)
