"""Compares a benchmark with an earlier one, written with `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from transfer3d.bench.case import Result
from transfer3d.errors import UsageError
from transfer3d.files import parse_json, read_regular

MAX_BYTES = 1 << 24
KEY = ("name", "phase", "ours", "baseline")

Key = tuple[str, ...]


class Earlier(BaseModel):
    """The fields that are read from an earlier result; see `bench.case.Result`."""

    name: str
    phase: str
    ours: str
    baseline: str
    ratio: float | None = Field(gt=0, allow_inf_nan=False)
    spread: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class EarlierBench(BaseModel):
    """The file of an earlier benchmark; its machine and number of pairs are ignored."""

    results: list[Earlier]


def read_results(path: Path) -> dict[Key, Earlier]:
    """Returns the results of an earlier benchmark by case: name, phase, ours and baseline.

    Raises:
        UsageError: the file cannot be read, or is not the output of `transfer3d bench ... --json`.
    """
    try:
        report = EarlierBench.model_validate(parse_json(read_regular(path, MAX_BYTES)))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. Give the output of `bench ... --json`.") from None
    except ValueError:
        raise UsageError(f"{path} is not a benchmark: give the output of `bench ... --json`.") from None
    return {_key(result): result for result in report.results if result.ratio is not None}


def changes(results: Sequence[Result], before: dict[Key, Earlier]) -> list[dict[str, Any]]:
    """Returns the cases in both benchmarks: the ratio before and now, and now / before, above 1 if faster.

    Both ratios are relative to the same baseline on the same machine, so the two machines may differ. A
    change of at most the sum of both spreads is within the noise; None if a spread is unknown.
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
