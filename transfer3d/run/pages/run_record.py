"""Reads a run folder for a report: recipe, log, manifest and checkpoint."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from transfer3d.engine.run_folder import FINISHED, LOG, MAX_LOG_BYTES, MODEL, RECIPE, STARTED
from transfer3d.errors import DataError, Transfer3dError, UsageError
from transfer3d.evaluation.scores import load_scores
from transfer3d.files import MAX_JSON_BYTES, nearest_beside, parse_json, read_json, read_regular, sha256_file
from transfer3d.insight.report.chain import chain_of
from transfer3d.insight.report.record import Change, Evaluation, RunRecord, correct_videos
from transfer3d.recipes.files import list_recipes
from transfer3d.recipes.load import dump, load_recipe
from transfer3d.recipes.schema import Recipe
from transfer3d.run.pages.run_notes import FinishedNote, ReportNote, StartedNote
from transfer3d.text import problem
from transfer3d.weights.metadata import read_metadata

FORWARD = ["forward"]
"""Frame orders of a report on unmodified videos."""
LARGEST = 1e30
"""Maximum absolute value of a log entry that can be plotted."""
Note = TypeVar("Note", bound=BaseModel)


def read_run(path: Path, *, is_stage: bool = False) -> RunRecord:
    """Reads the folder of a finished or unfinished run.

    Args:
        path: its folder.
        is_stage: whether it is a stage of another run.

    Raises:
        UsageError: the folder contains no run, or its recipe is invalid.
        DataError: its log or its manifest is damaged.
        WeightsError: its checkpoint is damaged.
    """
    if not (path / RECIPE).is_file():
        what = "is a file" if path.is_file() else "has no recipe.toml"
        what = what if path.exists() else f"does not exist{nearest_beside(path)}"
        raise UsageError(f"{path} {what}. Name a run folder, as given to `-o` of a training run.")
    recipe = load_recipe(path / RECIPE)
    if is_stage and recipe.stages:  # folders that link to each other could have any number
        raise UsageError(f"{path}: the recipe of a stage has stages. Remove that folder from the run.")
    model = path / MODEL
    log = read_log(path / LOG)
    finished = read_note(path / FINISHED, FinishedNote)
    started = read_note(path / STARTED, StartedNote)
    parent, changes = nearest_recipe(recipe)
    begun = [name for name in recipe.stages if (path / name / RECIPE).is_file()]
    stages = {name: read_run(path / name, is_stage=True) for name in begun}
    return RunRecord(
        name=str(path),
        recipe=recipe.model_dump(mode="json"),
        recipe_text=dump(recipe),
        parent=parent,
        changes=changes,
        log=log,
        steps=finished.steps if finished else log[-1]["step"] if log else 0,
        finished=finished is not None,
        started=started.to_dict() if started else {},
        checkpoint=read_metadata(model) if model.is_file() else None,
        chain=chain_of(model) if model.is_file() else (),
        stages=stages,
        evaluation=find_evaluation(path),
    )


def read_log(path: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl; an incomplete last line, left by a killed run, is skipped.

    Raises:
        DataError: another line is damaged.
    """
    if not path.is_file():
        return []
    try:
        lines = read_regular(path, MAX_LOG_BYTES).decode(errors="replace").splitlines()
    except ValueError as error:
        raise DataError(f"{path}: {error}. Remove it; the report does not need it.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            if not _is_row(row):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not line.endswith("}"):
                break
            raise DataError(
                f"{path}: line {number} is damaged. Remove that line; the report uses the others."
            ) from None
        rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    """Whether a row has a step, a split, and otherwise only numbers that can be plotted."""
    step, split = row["step"], row["split"]
    values = [value for name, value in row.items() if name != "split"]
    are_numbers = all(type(value) in (int, float) and not abs(value) > LARGEST for value in values)
    return type(step) is int and step >= 0 and isinstance(split, str) and are_numbers


def read_note(path: Path, kind: type[Note]) -> Note | None:
    """Reads a JSON object; None if there is no such file.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return kind.model_validate(parse_json(read_regular(path, MAX_JSON_BYTES)))
    except ValidationError as error:
        reason = problem(error.errors()[0])
    except ValueError as error:
        reason = str(error)
    raise DataError(f"{path} is damaged ({reason}). Remove it; the report does not need it.")


def find_evaluation(path: Path) -> Evaluation | None:
    """Returns the newest report of the run's checkpoint that `transfer3d evaluate -o` wrote to its folder.

    Reports on the test split are preferred; those with frames in another order are skipped.
    """
    model = path / MODEL
    if not model.is_file():
        return None
    digest = sha256_file(model)
    files = [file for file in path.glob("*.json") if file.is_file()]
    files.sort(key=os.path.getmtime, reverse=True)
    evaluations = [(file, report) for file in files if (report := _evaluation_in(file, digest))]
    if not evaluations:
        return None
    file, evaluation = min(evaluations, key=lambda item: item[1].split != "test")
    return replace(evaluation, right=_correct_videos(file))


def _evaluation_in(file: Path, checkpoint: str) -> Evaluation | None:
    """Reads an evaluation of a checkpoint; None if the file is something else or of another checkpoint."""
    try:
        content = read_json(file)
        report = ReportNote.model_validate(content)
    except (OSError, ValueError):
        return None
    if report.checkpoint_sha256 != checkpoint or report.protocol.get("orders", FORWARD) != FORWARD:
        return None
    views = report.views / report.scored
    return Evaluation(
        metrics=content,
        classes=list(report.per_class),
        split=report.split,
        source=f"{report.scored} videos of {report.data}, protocol {report.protocol['name']}, "
        f"{views:.3g} views each, as `transfer3d evaluate` wrote them to {file.name}",
        data=report.data_digest,
        protocol=report.protocol,
        views=views,
    )


def _correct_videos(report: Path) -> dict[str, bool]:
    """Returns whether each video of a report was classified correctly; empty if its scores are missing."""
    try:
        return correct_videos(load_scores(report)[0])
    except Transfer3dError:
        return {}


def nearest_recipe(recipe: Recipe) -> tuple[str, list[Change]]:
    """Returns the built-in recipe of the same task with the fewest differing keys, and the differences."""
    own = dict(_flat(recipe.model_dump(mode="json")))
    best, fewest = "", math.inf
    changes: list[Change] = []
    for name in sorted(list_recipes(), key=lambda name: not name.startswith("default/")):
        other = _built_in(name)
        if other.task != recipe.task:
            continue
        theirs = dict(_flat(other.model_dump(mode="json")))
        keys = [key for key in dict.fromkeys([*own, *theirs]) if own.get(key) != theirs.get(key)]
        if len(keys) < fewest:
            best, fewest = name, len(keys)
            changes = [Change(key, _shown(theirs.get(key)), _shown(own.get(key))) for key in keys]
    return best, changes


@cache
def _built_in(name: str) -> Recipe:
    return load_recipe(name)


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
