"""The JSON file of a run: one record for each (row, seed), complete at any moment.

It is written before any work, so that a run never continues one with another setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer3d import UsageError
from transfer3d.files import write_text

Key = tuple[str, int]


class Store:
    """Records by (row, seed).

    Args:
        path: of the file; an existing one is continued.
        shared: what all records share, JSON-able.

    Raises:
        UsageError: the file was made with other shared values, or is not a result.
    """

    def __init__(self, path: Path, shared: Mapping[str, Any]) -> None:
        self._path, self._shared = path, dict(shared)
        self._records: dict[Key, dict[str, Any]] = {}
        if path.exists():
            self._read()
        else:
            self._write()

    def holds(self, row: str, seed: int, chosen: Mapping[str, Any]) -> bool:
        """Whether there is a record of this row and seed with the choices of the last tuning."""
        record = self._records.get((row, seed))
        return record is not None and all(record[name] == value for name, value in chosen.items())

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, by row in the order in which rows came first, then by seed."""
        rows = list(dict.fromkeys(row for row, _ in self._records))
        ordered = sorted(self._records, key=lambda key: (rows.index(key[0]), key[1]))
        return [self._records[key] for key in ordered]

    def add(self, record: dict[str, Any]) -> None:
        """Adds a record, in the place of one of the same row and seed, and writes the file."""
        self._records[record["row"], record["seed"]] = record
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps({**self._shared, "records": self.records}, indent=1) + "\n")

    def _read(self) -> None:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            records = {(record["row"], record["seed"]): record for record in content.pop("records")}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UsageError(f"{self._path} is not a result: {error}. Choose another -o.") from None
        changed = [
            name for name in {**content, **self._shared} if content.get(name) != self._shared.get(name)
        ]
        if changed:
            raise UsageError(
                f"{self._path} was made with another {' and '.join(changed)}. Choose another -o."
            )
        self._records = records
