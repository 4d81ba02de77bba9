"""The JSON file that a run fills: one record for each (row, seed), whole at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer3d.errors import UsageError
from transfer3d.files import write_text

Key = tuple[str, int]


class Store:
    """Records by (row, seed).

    Args:
        path: of the file; an existing one is gone on with.
        facts: what all records share, JSON-able.

    Raises:
        UsageError: the file was made with other facts, or is no such file.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self._path, self._facts = path, dict(facts)
        self._records: dict[Key, dict[str, Any]] = {}
        if path.exists():
            self._read()

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, by row in the order in which rows came first, then by seed."""
        rows = list(dict.fromkeys(row for row, _ in self._records))
        ordered = sorted(self._records, key=lambda key: (rows.index(key[0]), key[1]))
        return [self._records[key] for key in ordered]

    def add(self, record: dict[str, Any]) -> None:
        """Adds a record and writes the file.

        Raises:
            ValueError: there is one of this row and seed.
        """
        key = record["row"], record["seed"]
        if key in self._records:
            raise ValueError(f"{key} is counted already")
        self._records[key] = record
        write_text(self._path, json.dumps({**self._facts, "records": self.records}, indent=1) + "\n")

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            records = found.pop("records")
        except (ValueError, KeyError, AttributeError) as error:
            raise UsageError("E212", f"{self._path} is no result: {error}. Choose another -o.") from None
        changed = [name for name in {**found, **self._facts} if found.get(name) != self._facts.get(name)]
        if changed:
            raise UsageError(
                "E212", f"{self._path} was made with another {' and '.join(changed)}. Choose another -o."
            )
        for record in records:
            self._records[record["row"], record["seed"]] = record
