"""`preprocessor_config.json`, beside weights of transformers: what a network expects of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.errors import WeightsError
from transfer3d.files import parse_json, read_regular

PREPROCESSOR = "preprocessor_config.json"
MOST_BYTES = 1 << 20
"""Of a configuration."""


def read_configuration(path: Path) -> dict[str, Any]:
    """Reads a JSON table that others wrote.

    Raises:
        WeightsError: the file is not a table of a preprocessor.
    """
    try:
        entries = parse_json(read_regular(path, MOST_BYTES), untrusted=True)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}. Copy it again.") from None
    if not isinstance(entries, dict):
        raise WeightsError(f"{path}: not a table. Copy it again.")
    return entries


def mean_and_std(facts: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of three channels, on a 0..1 scale.

    Raises:
        WeightsError: the table does not hold them.
    """
    rows = []
    for name, least in (("image_mean", -1000), ("image_std", 1e-6)):
        given = facts.get(name)
        values = given if isinstance(given, list) else []
        if len(values) != 3 or not all(type(v) in (int, float) and least <= v <= 1000 for v in values):
            raise WeightsError(f"{PREPROCESSOR} has no {name} of three channels. Copy the right one.")
        rows.append(tuple(map(float, values)))
    return rows[0], rows[1]
