"""`transfer3d bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out, print_json, progress_console

if TYPE_CHECKING:
    from transfer3d.bench.case import Case, Result

app = typer.Typer(
    help="Measure speed and memory on this machine, against named baselines.", no_args_is_help=True
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--data", exists=True, file_okay=False, help="Folder of videos; default: generated ones of 320x240."
    ),
]
Only = Annotated[
    str, typer.Option(help="Only cases whose name or baseline contains this, e.g. `conv4d`, `plain`.")
]
Pairs = Annotated[int, typer.Option(metavar="N", min=1, help="Number of timings of each pair.")]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; default: torch's.")]
Against = Annotated[
    Path | None,
    typer.Option(metavar="OLD.json", help="Earlier results, written with --json, to compare with."),
]


@app.command()
def models(
    only: Only = "",
    pairs: Pairs = 7,
    device: Annotated[str, typer.Option(metavar="cpu|cuda|auto", help="Where to run.")] = "auto",
    threads: Threads = None,
    against: Against = None,
    json: options.Json = False,
) -> None:
    """Compare networks with plain implementations of the same computation: time, ratio, peak memory.

    Example: `transfer3d bench models --only p3d`
    """
    from transfer3d.bench.report import bench_models

    machine, total, results = bench_models(only=only, pairs=pairs, device=device, threads=threads)
    _report(machine, results, total, pairs=pairs, against=against, json=json)


@app.command()
def data(
    folder: Folder = None,
    only: Only = "",
    pairs: Pairs = 7,
    against: Against = None,
    json: options.Json = False,
) -> None:
    """Compare decoding with other decoders and methods, and two workers with one.

    torchcodec and decord are compared if they are installed.

    Example: `transfer3d bench data --data videos/`
    """
    import torch

    from transfer3d.bench.data import data_cases

    torch.set_num_threads(1)
    _measure(partial(data_cases, folder), only, pairs=pairs, against=against, json=json)


@app.command()
def train(
    folder: Folder = None,
    only: Only = "",
    pairs: Pairs = 7,
    against: Against = None,
    json: options.Json = False,
) -> None:
    """Compare training and evaluation with hand-written loops, and measure how long training waits for data.

    Example: `transfer3d bench train --only waiting`
    """
    from transfer3d.bench.report import machine_info
    from transfer3d.bench.train import train_results
    from transfer3d.scratch import scratch_folder

    with scratch_folder() as scratch:
        device, total, results = train_results(folder, scratch, only=only, pairs=pairs)
        _report(machine_info(device), results, total, pairs=pairs, against=against, json=json)


@app.command()
def correspond(pairs: Pairs = 7, against: Against = None, json: options.Json = False) -> None:
    """Compare a step of correspondence with one written from the paper's text, and a teacher as it was given.

    Example: `transfer3d bench correspond --pairs 3`
    """
    from transfer3d.bench.correspondence import correspondence_cases
    from transfer3d.engine.distributed import make_accelerator

    where = make_accelerator("fp32").device.type
    _measure(correspondence_cases, "", where, pairs=pairs, against=against, json=json)


@app.command()
def export(
    student: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="A registered student with random weights, or a checkpoint."),
    ] = "p3d63",
    only: Only = "",
    pairs: Pairs = 7,
    threads: Threads = None,
    against: Against = None,
    json: options.Json = False,
) -> None:
    """Compare the exports of a student with torch in fp32, on the CPU with one clip.

    Formats whose packages are not installed are skipped: ONNX needs the extra `export`, OpenVINO `openvino`.

    Example: `transfer3d bench export --student model.safetensors --threads 1`
    """
    import torch

    from transfer3d.bench.export import export_cases
    from transfer3d.models.checkpoint import load
    from transfer3d.models.factory import create_model
    from transfer3d.run.training.students import is_file

    if threads is not None:
        torch.set_num_threads(threads)
    net = load(student) if is_file(student) else create_model(student).eval()
    _measure(partial(export_cases, net), only, pairs=pairs, against=against, json=json)


@app.command()
def commands(
    folder: Folder = None,
    only: Only = "",
    pairs: Pairs = 7,
    against: Against = None,
    json: options.Json = False,
) -> None:
    """Measure whole commands from their start: what they load, and where the seconds of `predict` go.

    Example: `transfer3d bench commands --only predict`
    """
    from transfer3d.bench.commands import command_cases

    _measure(partial(command_cases, folder), only, pairs=pairs, against=against, json=json)


def _measure(
    cases_in: Callable[[Path], Iterable[Case]],
    only: str,
    where: str = "cpu",
    *,
    pairs: int,
    against: Path | None,
    json: bool,
) -> None:
    """Measures the cases whose name contains `only`, on the device `where`, and prints the results.

    Args:
        cases_in: returns the cases; its argument is a folder for their files.
        only: see `choose_cases`.
        where: type of the device.
        pairs: see `paired_ratio`.
        against: earlier results.
        json: whether to print JSON.
    """
    import torch

    from transfer3d.bench.case import choose_cases, run_cases
    from transfer3d.bench.report import machine_info
    from transfer3d.scratch import scratch_folder

    device = torch.device(where)
    with scratch_folder() as scratch:
        chosen = choose_cases(cases_in(scratch), only)
        results = run_cases(chosen, device, pairs=pairs)
        _report(machine_info(device), results, len(chosen), pairs=pairs, against=against, json=json)


def _report(
    machine: dict[str, Any],
    results: Iterable[Result],
    total: int,
    *,
    pairs: int,
    against: Path | None,
    json: bool,
) -> None:
    """Runs the cases with a progress bar, and prints the results."""
    from dataclasses import asdict

    from transfer3d.bench.against import changes, read_results
    from transfer3d.bench.report import show, show_changes
    from transfer3d.progress import track

    before = None if against is None else read_results(against)
    done = list(track(results, "bench", total, console=progress_console()))
    rows = [] if before is None else changes(done, before)
    if json:
        report = {"machine": machine, "pairs": pairs, "results": [asdict(result) for result in done]}
        print_json(report if before is None else {**report, "changes": rows})
        return
    show(out(), machine, pairs, done)
    if against is not None:
        show_changes(out(), against, rows)
