"""A run folder as a report sees it: recipe, log, what the run noted, and its checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer3d.engine.run_folder import FINISHED, LOG, MODEL, RECIPE, STARTED
from transfer3d.errors import DataError, Transfer3dError, UsageError
from transfer3d.evaluation.scores import load_scores
from transfer3d.files import nearest_beside, parse_json, sha256_file
from transfer3d.insight.report.chain import chain_of
from transfer3d.insight.report.record import Change, Evaluation, RunRecord, correct_videos
from transfer3d.recipes.files import list_recipes
from transfer3d.recipes.load import dump, load_recipe
from transfer3d.recipes.schema import Recipe
from transfer3d.weights.metadata import read_metadata

FORWARD = ["forward"]
"""The orders of a report on films as they are."""


def read_run(path: Path) -> RunRecord:
    """Reads a run folder, of a finished run or of one that is not.

    Raises:
        UsageError: the folder holds no run, or its recipe is invalid.
        DataError: its log or its notes are damaged.
        WeightsError: its checkpoint is damaged.
    """
    if not (path / RECIPE).is_file():
        what = "is a file" if path.is_file() else "has no recipe.toml"
        what = what if path.exists() else f"does not exist{nearest_beside(path)}"
        raise UsageError(f"{path} {what}. Name a run folder, as given to `-o` of a training run.")
    recipe = load_recipe(path / RECIPE)
    model = path / MODEL
    log = read_log(path / LOG)
    finished = _read_json(path / FINISHED)
    parent, changes = nearest_recipe(recipe)
    stages = {name: read_run(path / name) for name in recipe.stages if (path / name / RECIPE).is_file()}
    return RunRecord(
        name=str(path),
        recipe=recipe.model_dump(mode="json"),
        recipe_text=dump(recipe),
        parent=parent,
        changes=changes,
        log=log,
        steps=int(finished.get("steps", log[-1]["step"] if log else 0)),
        finished=bool(finished),
        started=_read_json(path / STARTED),
        checkpoint=read_metadata(model) if model.is_file() else None,
        chain=chain_of(model) if model.is_file() else (),
        stages=stages,
        evaluation=find_evaluation(path),
    )


def read_log(path: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl; a last line that a killed run left half written is skipped.

    Raises:
        DataError: another line is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            if not isinstance(row["split"], str) or not isinstance(row["step"], int) or not _are_numbers(row):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not line.endswith("}"):
                break
            raise DataError(
                f"{path}: line {number} is damaged. Remove that line; the report uses the others."
            ) from None
        rows.append(row)
    return rows


def _are_numbers(row: Mapping[str, Any]) -> bool:
    return all(isinstance(value, int | float) for name, value in row.items() if name != "split")


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: not a JSON object. Remove it; the report does not need it.")
    return content


def find_evaluation(path: Path) -> Evaluation | None:
    """Returns the newest report of the run's checkpoint that `transfer3d evaluate -o` left in its folder.

    Reports on the test split are preferred; those with frames in another order are skipped.
    """
    model = path / MODEL
    if not model.is_file():
        return None
    digest = sha256_file(model)
    files = sorted(path.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    evaluations = [(file, report) for file in files if (report := _evaluation_in(file, digest))]
    if not evaluations:
        return None
    file, evaluation = min(evaluations, key=lambda item: item[1].split != "test")
    return replace(evaluation, right=_correct_videos(file))


def _evaluation_in(file: Path, checkpoint: str) -> Evaluation | None:
    """Returns what a report says of a checkpoint; None where the file is of another one, or another kind."""
    try:
        report = parse_json(file.read_text(encoding="utf-8"))
        protocol = report["protocol"]
        if report["checkpoint_sha256"] != checkpoint or protocol.get("orders", FORWARD) != FORWARD:
            return None
        views = report["views"] / report["scored"]
        return Evaluation(
            metrics=report,
            classes=list(report["per_class"]),
            split=report["split"],
            source=f"{report['scored']} videos of {report['data']}, protocol {protocol['name']}, "
            f"{views:.3g} views each, as `transfer3d evaluate` wrote them to {file.name}",
            data=report["data_digest"],
            protocol=protocol,
            views=views,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _correct_videos(report: Path) -> dict[str, bool]:
    """Returns whether each video of a report was classified correctly; empty where its scores are missing."""
    try:
        return correct_videos(load_scores(report)[0])
    except Transfer3dError:
        return {}


def nearest_recipe(recipe: Recipe) -> tuple[str, list[Change]]:
    """Returns the built-in recipe of the same task that a recipe differs from in the fewest keys, and how."""
    own = dict(_flat(recipe.model_dump(mode="json")))
    best, fewest = "", math.inf
    changes: list[Change] = []
    for name in sorted(list_recipes(), key=lambda name: not name.startswith("default/")):
        other = load_recipe(name)
        if other.task != recipe.task:
            continue
        theirs = dict(_flat(other.model_dump(mode="json")))
        keys = [key for key in dict.fromkeys([*own, *theirs]) if own.get(key) != theirs.get(key)]
        if len(keys) < fewest:
            best, fewest = name, len(keys)
            changes = [Change(key, _shown(theirs.get(key)), _shown(own.get(key))) for key in keys]
    return best, changes


def differing_keys(records: Sequence[RunRecord]) -> list[tuple[str, ...]]:
    """Returns every key of the recipes in which runs differ, with the value of each run."""
    tables = [dict(_flat(record.recipe)) for record in records]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [(key, *(_shown(table.get(key)) for table in tables)) for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
