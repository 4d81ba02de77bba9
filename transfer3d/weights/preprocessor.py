"""Reads `preprocessor_config.json`, the input specification beside weights of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.errors import WeightsError
from transfer3d.files import parse_json, read_regular

PREPROCESSOR = "preprocessor_config.json"
MAX_BYTES = 1 << 20
"""Maximum size of a configuration file."""


def read_configuration(path: Path) -> dict[str, Any]:
    """Reads an untrusted JSON table.

    Raises:
        WeightsError: the file cannot be read or is not a JSON table.
    """
    try:
        entries = parse_json(read_regular(path, MAX_BYTES), untrusted=True)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}. Copy it again.") from None
    if not isinstance(entries, dict):
        raise WeightsError(f"{path}: not a JSON table. Copy it again.")
    return entries


def mean_and_std(preprocessor: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of three channels, on a 0..1 scale.

    Raises:
        WeightsError: the table lacks them.
    """
    rows = []
    for name, least in (("image_mean", -1000), ("image_std", 1e-6)):
        given = preprocessor.get(name)
        values = given if isinstance(given, list) else []
        if len(values) != 3 or not all(type(v) in (int, float) and least <= v <= 1000 for v in values):
            raise WeightsError(f"{PREPROCESSOR} has no {name} of three channels. Copy the right one.")
        rows.append(tuple(map(float, values)))
    return rows[0], rows[1]
