"""`transfer3d models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out, print_json

if TYPE_CHECKING:
    from transfer3d.models.costs import Cost

WIDE = 130
"""Columns of a terminal from which timm's network and the paper are shown too."""


def models(
    pattern: Annotated[str, typer.Argument(help="Names to list, with * and ?.")] = "*",
    json: options.Json = False,
) -> None:
    """List the students: parameters, GMAC, clip, paper.

    Example: `transfer3d models 't3d*'`
    """
    from rich.table import Table

    from transfer3d.errors import UsageError, did_you_mean
    from transfer3d.models.costs import read_costs
    from transfer3d.models.registry import entry, list_models

    names = list_models(pattern)
    if not names:
        hint = did_you_mean(pattern, list_models())
        raise UsageError(f"no student matches '{pattern}'{hint}. `transfer3d models` lists them all.")
    rows, costs = [], read_costs()
    for name in names:
        student = entry(name)
        cost = costs[name] if name in costs else _counted(name)  # registered by another package
        clip = student.clip
        frames = f"{clip.units}x{clip.frames}" if clip.units > 1 else str(clip.frames)
        rows.append(
            {
                "name": name,
                "aliases": list(student.aliases),
                "parameters": cost.parameters,
                "gmac": round(cost.gmac, 3),
                "clip": f"{frames}x{clip.size}x{clip.size}@{clip.stride}",
                "source": student.source,
                "paper": student.paper,
            }
        )
    if json:
        print_json(rows)
        return
    wide = out().width >= WIDE
    table = Table(box=None, pad_edge=False)
    for title in (
        "student",
        "aliases",
        "parameters",
        "GMAC",
        "clip",
        *(["from (timm)", "paper"] if wide else []),
    ):
        table.add_column(title, justify="right" if title in ("parameters", "GMAC") else "left", no_wrap=True)
    for row in rows:
        cells = (row["name"], ", ".join(row["aliases"]), f"{row['parameters']:,}", f"{row['gmac']:.3f}")
        table.add_row(*cells, row["clip"], *([row["source"] or "", row["paper"]] if wide else []))
    out().print(table)
    out().print("clip = frames x pixels @ stride; parameters with the head; GMAC of one clip.")
    if not wide:
        out().print("A wider terminal, or --json, also has timm's network and the paper of each.")


def _counted(name: str) -> Cost:
    from transfer3d.models.measure import measure

    return measure(name)
