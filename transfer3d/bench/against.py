"""Compares a bench with an earlier one, which `--json` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from transfer3d.bench.case import Result
from transfer3d.errors import UsageError
from transfer3d.files import parse_json, read_regular

MOST_BYTES = 1 << 24
KEY = ("name", "phase", "ours", "baseline")

Key = tuple[str, ...]


class Earlier(BaseModel):
    """What is read of an earlier result; see `bench.case.Result`."""

    name: str
    phase: str
    ours: str
    baseline: str
    ratio: float | None = Field(gt=0, allow_inf_nan=False)
    spread: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class EarlierBench(BaseModel):
    """The file: its machine and its number of pairs are not compared."""

    results: list[Earlier]


def read_results(path: Path) -> dict[Key, Earlier]:
    """Returns the measured results of an earlier bench, each by its case: name, phase, ours and baseline.

    Raises:
        UsageError: the file cannot be read, or is not what `transfer3d bench ... --json` prints.
    """
    try:
        report = EarlierBench.model_validate(parse_json(read_regular(path, MOST_BYTES)))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. Give a file that `bench ... --json` wrote.") from None
    except ValueError:
        raise UsageError(f"{path} is not a bench: give a file that `bench ... --json` wrote.") from None
    return {_key(result): result for result in report.results if result.ratio is not None}


def changes(results: Sequence[Result], before: dict[Key, Earlier]) -> list[dict[str, Any]]:
    """Returns the cases of both benches: the ratio before and now, and now / before, above 1 if faster.

    Both ratios are to the same baseline, each on its own machine at its own time, so machines may differ. A
    change of at most both spreads together is within the noise; None where a spread is not known.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        earlier = before.get(_key(result))
        if earlier is None or earlier.ratio is None or result.ratio is None:
            continue
        change, spreads = result.ratio / earlier.ratio, (earlier.spread, result.spread)
        known = [spread for spread in spreads if spread is not None]
        rows.append(
            {
                **dict(zip(KEY, _key(result), strict=True)),
                "before": earlier.ratio,
                "now": result.ratio,
                "change": change,
                "within_noise": abs(change - 1) <= sum(known) if len(known) == len(spreads) else None,
            }
        )
    return rows


def _key(result: Result | Earlier) -> Key:
    return tuple(getattr(result, name) for name in KEY)
