"""The account of an inflation or an import: where every tensor came from, and where every tensor went."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from transfer3d.errors import WeightsError

How = Literal["inflated", "copied", "reshaped", "fresh", "dropped"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tensor's way.

    Attributes:
        target: the student's tensor; None when it is dropped.
        source: the 2D network's tensor; None when it is fresh.
        how: inflated (a kernel got temporal taps), copied, reshaped (same values, an axis of 1 more), fresh
            (no 2D counterpart), dropped (no place in the student).
        note: what a fresh tensor was set to, or which rows were taken.
    """

    target: str | None
    source: str | None
    how: How
    note: str = ""


@dataclass(frozen=True)
class Account:
    """Every row; complete by construction: see `close`."""

    rows: tuple[Row, ...]

    def counts(self) -> dict[str, int]:
        """Returns how many tensors went each way."""
        counted = Counter(row.how for row in self.rows)
        return {how: counted[how] for how in ("inflated", "copied", "reshaped", "fresh", "dropped")}

    def facts(self) -> list[dict[str, Any]]:
        """Returns every row in JSON form."""
        return [asdict(row) for row in self.rows]

    def lines(self) -> list[str]:
        """Returns every row, and the totals, as text."""
        lines = []
        for row in self.rows:
            note = f"  ({row.note})" if row.note else ""
            lines.append(f"  {row.how:<9} {row.source or '-':<40} -> {row.target or '-'}{note}")
        counts = self.counts()
        total = ", ".join(f"{count} {how}" for how, count in counts.items())
        return [*lines, f"{len(self.rows)} tensors: {total}"]


def close(
    rows: Iterable[Row], *, targets: Collection[str], sources: Collection[str], fresh: str, dropped: str
) -> Account:
    """Checks an account and closes it.

    Args:
        rows: of the account.
        targets: names of all tensors of the student.
        sources: names of all tensors of the 2D network.
        fresh: pattern of the student's tensors that may have no source.
        dropped: pattern of the 2D network's tensors that may have no target.

    Raises:
        WeightsError: a tensor is unaccounted for, or twice, or is fresh or dropped and must not be.
    """
    account = Account(tuple(rows))
    written = Counter(row.target for row in account.rows if row.target is not None)
    faults = {
        "of the student are not filled": [name for name in targets if name not in written],
        "of the student are filled twice": [name for name, times in written.items() if times > 1],
        "are not the student's": [name for name in written if name not in targets],
        "of the image model are not used": sorted(set(sources) - {row.source for row in account.rows}),
        "are fresh and have no right to": [
            row.target
            for row in account.rows
            if row.how == "fresh" and not re.fullmatch(fresh, row.target or "")
        ],
        "are dropped and have no right to": [
            row.source
            for row in account.rows
            if row.how == "dropped" and not re.fullmatch(dropped, row.source or "")
        ],
    }
    found = [
        f"{len(names)} {what} ({', '.join(map(str, names[:5]))})" for what, names in faults.items() if names
    ]
    if found:
        raise WeightsError(f"the account of tensors does not close: {'; '.join(found)}.")
    return account
