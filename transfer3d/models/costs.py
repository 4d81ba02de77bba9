"""Parameters and GMAC of the registered students, precomputed since counting builds every network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transfer3d.files import parse_json

FILE = Path(__file__).with_name("costs.json")
"""Written by `python tools/costs.py`; a test recomputes the values."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Attributes: parameters (all, head included) and GMAC of one forward pass, batch 1, at `clip`'s size."""

    parameters: int
    gmac: float


def read_costs() -> dict[str, Cost]:
    """Returns the cost of every student that the package registers, by name."""
    return {name: Cost(**cost) for name, cost in parse_json(FILE.read_text(encoding="utf-8")).items()}
