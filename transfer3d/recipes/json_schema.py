"""The JSON Schema of recipes, from which editors complete and check TOML files."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel

from transfer3d.recipes.schema import Recipe

EXTENDS = {
    "type": "string",
    "description": "Recipe whose values these change: a built-in name, or a .toml file beside this one.",
}


def recipe_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a recipe file.

    It describes a file on its own: `extends` is allowed, no key is required, since a parent may set it, and
    each stage has the keys of a recipe. TOML has no null, so no value may be null.
    """
    schema = _without_null(Recipe.model_json_schema())
    tables = {**schema["$defs"], Recipe.__name__: schema}
    for model in set(_models(Recipe)):
        explained = _explanations(model)
        for key, value in tables[model.__name__]["properties"].items():
            if key in explained:
                value["description"] = explained[key]
    keys = dict(schema["properties"])
    stages = keys.pop("stages")
    stages["additionalProperties"] = {"$ref": "#/$defs/Stage"}
    schema["$defs"]["Stage"] = {"type": "object", "properties": keys, "additionalProperties": False}
    del schema["required"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "transfer3d recipe",
        "properties": {"extends": EXTENDS, **keys, "stages": stages},
    }


def _without_null(value: Any) -> Any:
    """Returns a schema without null among its types and defaults."""
    if isinstance(value, list):
        return [_without_null(item) for item in value if item != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_null(item) for key, item in value.items() if item is not None}
    if len(kept.get("anyOf", ())) == 1:
        (only,) = kept.pop("anyOf")
        kept = {**only, **kept}
    return kept


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yields a model and the models of its tables."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _models(kind)


def _explanations(model: type[BaseModel]) -> dict[str, str]:
    """Returns the docstrings of the fields of a class and of its parents, by field."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if part in (object, BaseModel) or not issubclass(part, BaseModel):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value)).replace("\n", " ")
    return found
