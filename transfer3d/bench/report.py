"""`transfer3d bench models`: chooses the cases and prints the results as tables."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from transfer3d.bench.case import Result, choose_cases, run_cases
from transfer3d.bench.conv4d import conv4d_cases
from transfer3d.bench.depthwise import depthwise_cases
from transfer3d.bench.gpu import gpu_cases
from transfer3d.bench.networks import network_cases
from transfer3d.bench.recomputation import recomputation_cases
from transfer3d.errors import SetupError, UsageError


def bench_models(
    *, only: str, pairs: int, device: str, threads: int | None
) -> tuple[dict[str, Any], int, Iterator[Result]]:
    """Prepares the comparisons.

    Args:
        only: see `matching`.
        pairs: see `paired_ratio`.
        device: cpu, cuda or auto.
        threads: torch's threads on the CPU; None = unchanged.

    Returns:
        The machine's description, the number of cases, and their results one by one.

    Raises:
        UsageError: `only` matches no case, or the device is unknown.
        SetupError: the device is cuda, but torch cannot use a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device '{device}': must be cpu, cuda or auto.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SetupError("torch finds no usable GPU: leave out --device.")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if threads is not None:
        torch.set_num_threads(threads)
    of_device = gpu_cases() if where.type == "cuda" else depthwise_cases()
    every = [*conv4d_cases(), *network_cases(), *recomputation_cases(), *of_device]
    chosen = choose_cases(every, only)
    return machine_info(where), len(chosen), run_cases(chosen, where, pairs=pairs)


def machine_info(device: torch.device) -> dict[str, Any]:
    """Returns the device, torch's threads and its version."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"


def show(console: Console, machine: dict[str, Any], pairs: int, results: Sequence[Result]) -> None:
    """Prints results as tables, one per name and baseline; cells are `ours / baseline`."""
    for (name, baseline), same in groupby(results, key=lambda result: (result.name, result.baseline)):
        group = list(same)
        console.print(f"{name}, against {baseline}", style="bold")
        table = Table("ours", "phase", box=None)
        for heading in ("ms", "ratio", "spread", "at least", "MiB", "diff"):
            table.add_column(heading, justify="right", no_wrap=True)
        for result in group:
            cells = (
                f"{_number(result.ours_ms)} / {_number(result.baseline_ms)}",
                _number(result.ratio, ".2f"),
                _number(result.spread, ".0%"),
                _number(result.at_least, ".2f"),
                f"{_number(result.ours_mib)} / {_number(result.baseline_mib)}",
                _number(result.difference, ".0e"),
            )
            table.add_row(result.ours, result.phase, *(("skipped",) if result.skipped else cells))
        console.print(table)
        for result in group:
            rates = (f"{name} {ours:.3g} / {other:.3g}" for name, (ours, other) in result.per_second.items())
            if result.per_second:
                console.print(f"{result.ours}, per second: {', '.join(rates)}")
    for reason in dict.fromkeys(result.skipped for result in results if result.skipped):
        console.print(f"skipped: {reason}")
    setting = ", ".join(
        f"{value} {key}" if key == "threads" else str(value) for key, value in machine.items()
    )
    console.print(
        f"{setting}. Medians of {pairs} interleaved pairs, ours / baseline; ratio = baseline / ours; "
        "spread = interquartile range of the pairs' ratios, the machine's noise."
    )


def show_changes(console: Console, path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Prints the changes of the ratios since an earlier benchmark."""
    console.print(f"against {path}: {len(rows)} cases in both", style="bold")
    table = Table("case", "ours", "phase", box=None)
    for heading in ("before", "now", "now / before"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        change = f"{row['change']:.2f}" + (" (noise)" if row["within_noise"] else "")
        table.add_row(
            row["name"], row["ours"], row["phase"], f"{row['before']:.2f}", f"{row['now']:.2f}", change
        )
    if rows:
        console.print(table)


def _number(value: float | None, form: str = ".4g") -> str:
    return "-" if value is None else format(value, form)
