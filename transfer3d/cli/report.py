"""`transfer3d report`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, finished or not.")],
    data: Annotated[str | None, typer.Option(help="Videos to evaluate. Default: the run's own data.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="The .safetensors file of `transfer3d features` to plot instead of a few videos' features."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="HTML file. Default: RUN/report.html; several: comparison.html."),
    ] = None,
    videos: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Approximate number of videos to evaluate per run, at least one per class; 0 = none. With "
            "several runs, those that were evaluated before are skipped.",
        ),
    ] = 500,
    precision: options.Precision = None,
    workers: options.DecodingWorkers = 0,
    json: options.Json = False,
) -> None:
    """Write a report of a run, or a comparison of several, as one self-contained HTML file.

    Example: `transfer3d report runs/tuned`
    """
    from transfer3d.run.pages.report import ReportOptions, compare_runs, report_run

    options = ReportOptions(
        data=data, features=features, videos=videos, precision=precision or "auto", workers=workers
    )
    console = progress_console()
    if len(runs) == 1:
        written = report_run(runs[0], out, options, console=console)
    else:
        written = compare_runs(runs, out, options, console=console)
    if json:
        print_json(written.to_dict())
    else:
        stdout().print(f"wrote {written.page}")
