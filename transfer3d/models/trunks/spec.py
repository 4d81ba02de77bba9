"""What the shapes of 2D networks have in common: a JSON form, so that a checkpoint can hold one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from transfer3d.text import problem


@dataclass(frozen=True, kw_only=True)
class TrunkSpec:
    """The shape of a 2D network; subclasses add the fields."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Builds a spec from its JSON form, where tuples are lists.

        Raises:
            TypeError: a field is missing or unknown.
            ValueError: a value is out of range.
        """
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        check_types(values, get_type_hints(cls, include_extras=True))
        return cls(**values)


def check_types(values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Compares arguments that may come from a file with the types that they should have.

    Args:
        values: by name; those without a hint are passed over.
        hints: of `typing.get_type_hints`, with pydantic's constraints where there are any.

    Raises:
        ValueError: one is of another type, or out of its range; no type is guessed from another.
    """
    for name, value in values.items():
        if name not in hints:
            continue
        try:
            TypeAdapter(hints[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(problem(first | {"loc": (name, *first["loc"])})) from None
