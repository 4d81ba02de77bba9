"""Learning rate and steps of each main row: the same small grid for all, judged on the validation split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from result.setting import Row

TUNED = Path(__file__).with_name("tuned.json")
RATES, STEPS = (0.03, 0.1, 0.3), (300, 900, 1800)
SEEDS = (100,)
"""Not among the seeds of the result."""


class Candidate(NamedTuple):
    """One point of the grid."""

    lr: float
    max_steps: int


UNTUNED = Candidate(0.1, 900)
"""For a row that was not tuned."""
GRID = tuple(Candidate(*point) for point in product(RATES, STEPS))


def tuning_name(row: Row, candidate: Candidate) -> str:
    """Returns the name that a record of tuning has as its row."""
    return f"{row.name}, lr {candidate.lr:g}, {candidate.max_steps} steps"


def choose(records: Iterable[Mapping[str, Any]]) -> dict[str, Candidate]:
    """Returns for each row the candidate with the best mean validation accuracy; of equals the cheaper.

    Args:
        records: of tuning, with `tuned_row`, `lr`, `max_steps` and `top1`.
    """
    scores: dict[str, dict[Candidate, list[float]]] = {}
    for record in records:
        candidate = Candidate(record["lr"], record["max_steps"])
        scores.setdefault(record["tuned_row"], {}).setdefault(candidate, []).append(record["top1"])
    return {
        row: max(values, key=lambda point: (mean(values[point]), -point.max_steps, -point.lr))
        for row, values in scores.items()
    }


def read_tuned(path: Path = TUNED) -> dict[str, Candidate]:
    """Returns the choice of `--tune` for each main row."""
    return choose(json.loads(path.read_text(encoding="utf-8"))["records"])


def chosen_for(row: Row, tuned: Mapping[str, Candidate], steps: int | None) -> dict[str, Any]:
    """Returns the `lr` and `max_steps` of a row; `steps` instead of those that were chosen."""
    candidate = tuned.get(row.tuned_as, UNTUNED)
    return {"lr": candidate.lr, "max_steps": steps or candidate.max_steps}
