"""Reads the header of a safetensors file, with stricter checks than the library's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from transfer3d.errors import WeightsError
from transfer3d.files import parse_json, why_no_file
from transfer3d.text import problem
from transfer3d.weights.schema import SafetensorsHeader

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 10_000_000
LENGTH_BYTES = 8
METADATA = "__metadata__"
MAX_NAMED = 5


def refuse_no_file(path: Path) -> None:
    """Raises WeightsError if `path` is not a file."""
    if path.is_file():
        return
    is_address = re.match(r"\w+:/", str(path))  # Path drops the second slash
    what = "is an address" if is_address else why_no_file(path)
    raise WeightsError(f"{path} {what}. Give the path of a weights file.")


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Returns a safetensors file's metadata and the shape of each of its tensors; no tensor is read.

    The library accepts duplicate names and headers of 100 MB; both are refused here, by `weights.schema`.

    Raises:
        WeightsError: the file does not exist, or its header is invalid.
    """
    refuse_no_file(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            size = path.stat().st_size
            if not 0 < length <= min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
                raise ValueError(f"{size} bytes cannot hold a header of {length}")
            entries = parse_json(file.read(length), untrusted=True)
        if not isinstance(entries, dict):
            raise ValueError("its header is not a table")
        metadata = entries.pop(METADATA, {})
        header = SafetensorsHeader.model_validate({"metadata": metadata, "tensors": entries})
        end = max((entry.data_offsets[1] for entry in header.tensors.values()), default=0)
        if LENGTH_BYTES + length + end != size:
            raise ValueError(f"its header describes {LENGTH_BYTES + length + end} bytes, it has {size}")
    except (OSError, ValueError) as error:
        reason = problem(error.errors()[0]) if isinstance(error, ValidationError) else error
        raise WeightsError(
            f"{path}: not a safetensors file, or damaged ({reason}): copy or write it again."
        ) from error
    return header.metadata, {name: tuple(entry.shape) for name, entry in header.tensors.items()}


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def differences(expected: dict[str, tuple[int, ...]], actual: dict[str, tuple[int, ...]]) -> str:
    """Describes how the tensors of a file differ from those of a network; empty if they do not."""
    kinds = {
        "missing": [name for name in expected if name not in actual],
        "unexpected": [name for name in actual if name not in expected],
        "of another shape": [n for n, shape in expected.items() if actual.get(n, shape) != shape],
    }
    return "; ".join(f"{len(names)} {kind} ({abbreviate(names)})" for kind, names in kinds.items() if names)


def abbreviate(names: Sequence[str]) -> str:
    """Returns the first few names, and how many follow."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
