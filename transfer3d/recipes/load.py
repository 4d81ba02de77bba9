"""Loads recipes: finds, extends, overrides and validates TOML files, which contain no code."""

from __future__ import annotations

import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.files import refuse_extremes
from transfer3d.recipes.files import merge, read_with_parents
from transfer3d.recipes.schema import Recipe
from transfer3d.text import problem, shortened

MAX_PROBLEMS = 10
"""Maximum number of problems in one message."""


def load_recipe(name: str | Path, overrides: Sequence[str] = (), **options: Any) -> Recipe:
    """Loads a recipe: its parents, then the recipe, then `options`, then `overrides`.

    Args:
        name: a built-in name, or a path that ends in .toml.
        overrides: `key=value` or `table.key=value`, the value in TOML syntax (a bare word is a string).
        options: values of top-level keys.

    Raises:
        UsageError: no such recipe, bad TOML, an unknown key or a value of the wrong type.
    """
    values = {**read_with_parents(name), **options}
    for override in overrides:
        _set(values, override)
    return validate(values, str(name))


def validate(values: Mapping[str, Any], where: str) -> Recipe:
    """Validates values against the schema; an error names every wrong key, its value and the nearest name."""
    try:
        recipe = Recipe.model_validate(values)
        refuse_extremes(values)  # in the tables that the schema leaves open
    except ValidationError as error:
        raise UsageError(f"recipe {where}: {'; '.join(_sentences(error))}.") from None
    except ValueError as error:
        raise UsageError(f"recipe {where}: {error}. Change that value.") from None
    stages_of(recipe, where)
    return recipe


def stages_of(recipe: Recipe, where: str = "that is resolved") -> dict[str, Recipe]:
    """Returns the recipe of every stage, by name, in order.

    Args:
        recipe: with stages or without.
        where: the recipe's origin, for messages.

    Raises:
        UsageError: a stage has an unknown key, a wrong value, or a name that cannot be a folder.
    """
    common = recipe.model_dump(exclude={"stages"})
    for name, changes in recipe.stages.items():
        if "stages" in changes:
            raise UsageError(f"recipe {where}: stage '{name}' has stages. Stages cannot be nested.")
    return {
        name: validate(merge(common, changes), f"{where}, stage {name}")
        for name, changes in recipe.stages.items()
    }


def dump(recipe: Recipe) -> str:
    """Returns the resolved recipe as TOML."""
    return tomli_w.dumps(_without_none(recipe.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def key_and_value(override: str) -> tuple[str, Any]:
    """Splits `key=value`; the value is in TOML syntax, and a bare word is a string.

    Raises:
        UsageError: the key or the `=` is missing.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {override}: not of the form key=value. Write e.g. --set max_steps=100.")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), text


def _set(values: dict[str, Any], override: str) -> None:
    key, value = key_and_value(override)
    *tables, last = key.split(".")
    if tables[:1] == ["stages"] and tables[1:] and tables[1] not in (stages := values.get("stages", {})):
        raise UsageError(
            f"--set {override}: no stage '{tables[1]}'{did_you_mean(tables[1], stages)}. "
            f"The recipe has {', '.join(stages) or 'none'}."
        )
    for table in tables:
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {override}: '{table}' is a value, not a table. Leave '.{last}' off.")
        values[table] = values = dict(inner)
    values[last] = value


def _sentences(error: ValidationError) -> Iterator[str]:
    problems = error.errors()
    for found in problems[:MAX_PROBLEMS]:
        path = [str(part) for part in found["loc"]]
        if found["type"] == "extra_forbidden":
            near, value = did_you_mean(path[-1], _keys(path[:-1])), reprlib.repr(found["input"])
            yield f"unknown key '{shortened('.'.join(path))}'{near}, value {value}"
        elif found["type"] == "literal_error":
            known = re.findall(r"'([^']*)'", found.get("ctx", {}).get("expected", ""))
            near, value = did_you_mean(str(found["input"]), known), reprlib.repr(found["input"])
            yield f"{'.'.join(path)} = {value}{near}: one of {', '.join(known)}"
        else:
            yield problem(found)
    if len(problems) > MAX_PROBLEMS:
        yield f"and {len(problems) - MAX_PROBLEMS} more"


def _keys(tables: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for table in tables:
        inner = model.model_fields[table].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
