"""Writes transfer3d/models/costs.json: parameters and GMAC of every registered student, to three decimals."""

from __future__ import annotations

import json

from transfer3d.files import write_text
from transfer3d.models.costs import FILE
from transfer3d.models.measure import measure
from transfer3d.models.registry import list_models


def costs_file() -> str:
    """Returns what the file holds."""
    counted = {name: measure(name) for name in list_models()}
    lines = [
        f'  "{name}": {json.dumps({"parameters": cost.parameters, "gmac": round(cost.gmac, 3)})}'
        for name, cost in counted.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    write_text(FILE, costs_file())
