"""The provenance chain of a checkpoint, followed through all files that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.errors import Transfer3dError
from transfer3d.insight.report.record import Link
from transfer3d.weights.hub import HUB_PREFIX, locate
from transfer3d.weights.metadata import CheckpointMetadata, read_metadata
from transfer3d.weights.provenance import file_holds

MAKERS = {
    "inflate": "Inflated",
    "import": "Imported",
    "correspond": "Trained by correspondence, without labels",
    "finetune": "Fine-tuned on labels",
}
LONGEST = 20
"""Maximum number of links to follow: a damaged file could refer to itself."""


def chain_of(file: Path) -> list[Link]:
    """Returns the links from the first weights to a checkpoint, the oldest first.

    Raises:
        WeightsError: the checkpoint itself cannot be read.
    """
    links: list[Link] = []
    metadata: CheckpointMetadata | None = read_metadata(file)
    name, check = str(file), ""
    while metadata is not None and len(links) < LONGEST:
        links += _steps(name, metadata, check)
        metadata, name, check, missing = _parent(metadata.provenance)
        links += missing
    return links[::-1]


def _steps(name: str, metadata: CheckpointMetadata, check: str) -> list[Link]:
    """Returns the links of a checkpoint and of the image model that it was inflated from or its teacher."""
    provenance = metadata.provenance
    rows = [("student", metadata.model), ("file", name), ("file's sha256", check)]
    rows += [("digest of its tensors", metadata.digest or ""), ("transfer3d", metadata.version)]
    rows += [
        ("data digest", _text(provenance.get("data_digest"))),
        ("proof", _proof(provenance.get("proof"))),
    ]
    maker = MAKERS.get(_text(provenance.get("made_by")), "Checkpoint")
    links = [Link(maker, [row for row in rows if row[1]])]
    if isinstance(teacher := provenance.get("teacher"), dict):
        rows = [("image model", "name"), ("weights", "weights"), ("digest", "digest")]
        links.append(
            Link("Teacher, frozen", [(label, _text(teacher.get(key))) for label, key in rows], beside=True)
        )
    if "source_digest" in provenance:
        rows = [("image model", "source"), ("weights", "weights"), ("digest", "source_digest")]
        links.append(Link("Image model", [(label, _text(provenance.get(key))) for label, key in rows]))
    if isinstance(source := provenance.get("source"), dict):
        rows = [("file", _text(source.get("file"))), ("sha256", _text(source.get("sha256")))]
        links.append(Link("Released checkpoint", [("kind", _text(provenance.get("kind"))), *rows]))
    return links


def _parent(provenance: dict[str, Any]) -> tuple[CheckpointMetadata | None, str, str, list[Link]]:
    """Returns the checkpoint that another one started from, or the last link if it cannot be followed."""
    parent = provenance.get("parent")
    if not isinstance(parent, dict):
        return None, "", "", []
    name, recorded = parent.get("checkpoint"), _text(parent.get("sha256"))
    if not isinstance(name, str):
        return None, "", "", [Link("Random weights", [("student", _text(parent.get("model")))])]
    if name.startswith(HUB_PREFIX):  # a report contacts no server
        return None, "", "", [Link("Checkpoint of the hub", [("name", name), ("sha256", recorded)])]
    try:
        path = locate(name)
        holds = file_holds(path, recorded)
        if holds:
            return read_metadata(path), name, f"{recorded}, holds", []
        trouble = "not found" if holds is None else "its content has changed"
    except (Transfer3dError, OSError):
        trouble = "not found"
    rows = [("file", f"{name}: {trouble}"), ("sha256", recorded)]
    return None, "", "", [Link("Checkpoint not found", rows)]


def _proof(proof: Any) -> str:
    return _text(proof.get("verdict")) if isinstance(proof, dict) else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)
