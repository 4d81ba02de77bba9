"""`transfer3d demo`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import progress_console


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of the demo; an earlier demo is replaced.")
    ] = Path("runs/demo"),
    seed: Annotated[int, options.seed("Seed of all random values.")] = 0,
) -> None:
    """Run the whole pipeline on the built-in dataset: a teacher, its students, a table, a report.

    Example: `transfer3d demo`
    """
    from transfer3d.run.demo import run_demo

    result = run_demo(out, seed=seed, console=progress_console())
    stdout().print(result.table())
    stdout().print(f"report: {result.report}")
