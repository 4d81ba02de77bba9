"""Whence a checkpoint came: back from file to file, as far as they are here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.errors import Transfer3dError
from transfer3d.files import sha256_file
from transfer3d.insight.report.record import Link
from transfer3d.weights.hub import HUB_PREFIX, locate
from transfer3d.weights.metadata import CheckpointMetadata, read_metadata

MAKERS = {
    "inflate": "Inflated",
    "import": "Imported",
    "correspond": "Taught by correspondence, without labels",
    "finetune": "Fine-tuned on labels",
}
LONGEST = 20
"""Links that are followed: provenance is what a file says, and a circle would have no end."""


def chain_of(file: Path) -> list[Link]:
    """Returns the links from the first weights to a checkpoint, the oldest first.

    Raises:
        WeightsError: the checkpoint itself cannot be read.
    """
    links: list[Link] = []
    facts: CheckpointMetadata | None = read_metadata(file)
    name, check = str(file), ""
    while facts is not None and len(links) < LONGEST:
        links += _steps(name, facts, check)
        facts, name, check, gone = _parent(facts.provenance)
        links += gone
    return links[::-1]


def _steps(name: str, facts: CheckpointMetadata, check: str) -> list[Link]:
    """Returns a checkpoint, and the image model that it owes its weights or its lessons to."""
    said = facts.provenance
    rows = [("student", facts.model), ("file", name), ("file's sha256", check)]
    rows += [("digest of its tensors", facts.digest or ""), ("transfer3d", facts.version)]
    rows += [("data digest", _text(said.get("data_digest"))), ("proof", _proof(said.get("proof")))]
    maker = MAKERS.get(_text(said.get("made_by")), "Checkpoint")
    links = [Link(maker, [row for row in rows if row[1]])]
    if isinstance(teacher := said.get("teacher"), dict):
        rows = [("image model", "name"), ("weights", "weights"), ("digest", "digest")]
        links.append(
            Link("Teacher, frozen", [(shown, _text(teacher.get(key))) for shown, key in rows], beside=True)
        )
    if "source_digest" in said:
        rows = [("image model", "source"), ("weights", "weights"), ("digest", "source_digest")]
        links.append(Link("Image model", [(shown, _text(said.get(key))) for shown, key in rows]))
    if isinstance(source := said.get("source"), dict):
        rows = [("file", _text(source.get("file"))), ("sha256", _text(source.get("sha256")))]
        links.append(Link("Released checkpoint", [("kind", _text(said.get("kind"))), *rows]))
    return links


def _parent(said: dict[str, Any]) -> tuple[CheckpointMetadata | None, str, str, list[Link]]:
    """Returns the checkpoint that another one started from, or the last link, where it cannot be followed."""
    parent = said.get("parent")
    if not isinstance(parent, dict):
        return None, "", "", []
    name, recorded = parent.get("checkpoint"), _text(parent.get("sha256"))
    if not isinstance(name, str):
        return None, "", "", [Link("Random weights", [("student", _text(parent.get("model")))])]
    if name.startswith(HUB_PREFIX):  # a report asks no server
        return None, "", "", [Link("Checkpoint of the hub", [("name", name), ("sha256", recorded)])]
    try:
        path = locate(name)
        if sha256_file(path) == recorded:
            return read_metadata(path), name, f"{recorded}, holds", []
        trouble = "there is another file by this name now"
    except (Transfer3dError, OSError):
        trouble = "not here any more"
    rows = [("file", f"{name}: {trouble}"), ("sha256", recorded)]
    return None, "", "", [Link("Checkpoint that cannot be followed", rows)]


def _proof(proof: Any) -> str:
    return _text(proof.get("verdict")) if isinstance(proof, dict) else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)
