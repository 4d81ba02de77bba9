"""The table of docs/reliability.md, from the results of runs: `docs/results/fuzz.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzz.runner import Tally
from transfer3d.files import write_text

START, END = "<!-- table of tools/fuzz -->\n", "<!-- end of the table -->\n"


def record(results: Path, name: str, attack: str, tally: Tally, command: str) -> None:
    """Replaces the row of one target in the results."""
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    rows[name] = {
        "attack": attack,
        "tries": tally.tries,
        "refused": tally.verdicts["refused"],
        "read": tally.verdicts["read"],
        "wrong": tally.verdicts["wrong"],
        "notes": dict(tally.notes),
        "command": command,
    }
    write_text(results, json.dumps(rows, indent=2, sort_keys=True) + "\n")


def with_table(page: str, rows: dict[str, Any]) -> str:
    """Returns the page with the table of these results.

    Args:
        page: has the two marks of the table.
        rows: the results, by target.
    """
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return before + START + _markdown(rows) + END + after


def _markdown(rows: dict[str, Any]) -> str:
    lines = [
        "| attack | tries | survived | refused | read | wrong | command |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows.values():
        notes = "; ".join(f"{count} with {note}" for note, count in row["notes"].items())
        read = f"{row['read']}, {notes}" if notes else str(row["read"])
        survived = row["tries"] - row["wrong"]
        lines.append(
            f"| {row['attack']} | {row['tries']} | {survived} | {row['refused']} | {read} | {row['wrong']} | "
            f"`{row['command']}` |"
        )
    return "\n".join(lines) + "\n"
