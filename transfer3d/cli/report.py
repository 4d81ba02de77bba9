"""`transfer3d report`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli.output import out as stdout


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, finished or not.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="HTML file. Default: RUN/report.html.")
    ] = None,
) -> None:
    """Write a run's page: one HTML file that needs nothing else, for a browser or a phone.

    Example: `transfer3d report runs/tuned`
    """
    from transfer3d.engine.distributed import is_main_process
    from transfer3d.run.report import quick_report

    if is_main_process():
        stdout().print(f"wrote {quick_report(run, out)}")
