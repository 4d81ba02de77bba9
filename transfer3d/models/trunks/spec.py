"""What the shapes of 2D networks have in common: a JSON form, so that a checkpoint can hold one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


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
        return cls(**values)
