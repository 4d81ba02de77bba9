"""The part of a checkpoint's provenance that is published with an export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from transfer3d.files import sha256_file

Provenance = Literal["short", "full"]

PUBLIC = (
    "made_by",
    "kind",
    "source",
    "source_digest",
    "temporal_init",
    "frozen_bn",
    "proof",
    "parent",
    "teacher",
    "data_digest",
    "flow",
    "metrics",
)
MAX_BYTES = 1 << 32
"""Maximum size of a file named by a checkpoint; larger ones are not read to check it."""
HUB_ADDRESSES = ("hf_hub:", "hf-hub:")


def file_holds(path: Path, recorded: str) -> bool | None:
    """Returns whether a file that a checkpoint names has this sha256.

    None if it does not exist, cannot be read, is not a regular file or is very large.
    """
    try:
        return sha256_file(path, MAX_BYTES) == recorded
    except (OSError, ValueError):
        return None


def image_source(provenance: Mapping[str, Any]) -> str | None:
    """Returns timm's name of the image model that a student was inflated from, itself or its parent."""
    parent = provenance.get("parent")
    for entry in (provenance, parent if isinstance(parent, Mapping) else {}):
        if isinstance(source := entry.get("source"), str):
            return source
    return None


def public_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a student's provenance without the recipe and without any folder name.

    Digests are kept, so that owners of the files can verify them. Keys that are not listed in `PUBLIC`, such
    as the recipe, are omitted; a path is reduced to its last part.

    Args:
        provenance: provenance of a checkpoint.
    """
    return {key: _without_paths(provenance[key]) for key in PUBLIC if key in provenance}


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str) and not value.startswith(HUB_ADDRESSES):
        return PureWindowsPath(value).name if "/" in value or "\\" in value else value
    return value
