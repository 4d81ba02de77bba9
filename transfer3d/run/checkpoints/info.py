"""What a checkpoint is, whence it came, and whether its digests hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transfer3d.files import sha256_file
from transfer3d.models.checkpoint import load
from transfer3d.models.measure import count_parameters
from transfer3d.models.registry import family_of
from transfer3d.weights.digest import tensors_digest
from transfer3d.weights.hub import locate
from transfer3d.weights.metadata import CheckpointMetadata, read_metadata

Verdict = Literal["holds", "differs", "not recorded", "not here"]


@dataclass(frozen=True, kw_only=True)
class DigestCheck:
    """A digest that a checkpoint records, and what was found.

    Attributes:
        what: "tensors", or the file that the checkpoint was made from.
        recorded: sha256, in hex.
        verdict: `not here` where that file is on another machine, or gone.
    """

    what: str
    recorded: str | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class CheckpointReport:
    """What `transfer3d info` says.

    Attributes:
        file: the weights file.
        sha256: of its bytes.
        bytes: its size.
        parameters: head included.
        facts: what it says of itself.
        digests: checked.
    """

    file: Path
    sha256: str
    bytes: int
    parameters: int
    facts: CheckpointMetadata
    digests: tuple[DigestCheck, ...]

    @property
    def intact(self) -> bool:
        """Whether the tensors are those that were written, as far as the file can tell."""
        return self.digests[0].verdict != "differs"

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        facts = self.facts
        return {
            "file": str(self.file),
            "sha256": self.sha256,
            "bytes": self.bytes,
            "model": facts.model,
            "family": family_of(facts.model).name,
            "paper": family_of(facts.model).paper,
            "model_args": facts.model_args,
            "parameters": self.parameters,
            "tensors": len(facts.shapes),
            "num_classes": facts.num_classes,
            "class_names": facts.class_names,
            "clip": facts.clip.to_dict(),
            "version": facts.version,
            "provenance": facts.provenance,
            "digests": [asdict(check) for check in self.digests],
        }


def inspect_checkpoint(path: str) -> CheckpointReport:
    """Reads a checkpoint, tensors included, and checks every digest that can be checked here.

    Args:
        path: file, Hub folder, or `hf_hub:user/name@revision`.

    Raises:
        WeightsError: the file is missing, damaged, or not the network that it says it is.
    """
    file = locate(path)
    facts, student = read_metadata(file), load(file)
    own: Verdict = "not recorded"
    if facts.digest is not None:
        own = "holds" if tensors_digest(student.state_dict()) == facts.digest else "differs"
    return CheckpointReport(
        file=file,
        sha256=sha256_file(file),
        bytes=file.stat().st_size,
        parameters=count_parameters(student),
        facts=facts,
        digests=(
            DigestCheck(what="tensors", recorded=facts.digest, verdict=own),
            *_sources(facts.provenance),
        ),
    )


def _sources(node: Any) -> Iterator[DigestCheck]:
    """Checks every file that the provenance names beside its sha256."""
    if isinstance(node, list):
        for item in node:
            yield from _sources(item)
    if not isinstance(node, dict):
        return
    name, recorded = node.get("file") or node.get("checkpoint"), node.get("sha256")
    if isinstance(name, str) and isinstance(recorded, str):
        path, verdict = Path(name), "not here"
        if path.is_file():
            verdict = "holds" if sha256_file(path) == recorded else "differs"
        yield DigestCheck(what=name, recorded=recorded, verdict=verdict)
    for value in node.values():
        yield from _sources(value)
