"""`transfer3d bench`."""

from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out, print_json, progress_console

app = typer.Typer(help="Measure speed and memory here, against named baselines.", no_args_is_help=True)


@app.command()
def models(
    only: Annotated[str, typer.Option(help="Only cases whose name contains this, e.g. `conv4d`.")] = "",
    pairs: Annotated[int, typer.Option(min=1, help="How often each pair is timed.")] = 7,
    device: Annotated[str, typer.Option(metavar="cpu|cuda|auto", help="Where to run.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: torch's.")] = None,
    json: options.Json = False,
) -> None:
    """Compare networks with plain code of the same mathematics: time, ratio, peak memory.

    Example: `transfer3d bench models --only p3d`
    """
    from dataclasses import asdict

    from transfer3d.bench.report import bench_models, show
    from transfer3d.progress import track

    machine, total, results = bench_models(only=only, pairs=pairs, device=device, threads=threads)
    done = list(track(results, "bench", total, console=progress_console()))
    if json:
        print_json({"machine": machine, "pairs": pairs, "results": [asdict(result) for result in done]})
        return
    show(out(), machine, pairs, done)
