"""`transfer3d kernels`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json

UNITS = {"T": "frames", "U": "units"}


def kernels(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint of a student.")],
    layers: Annotated[bool, typer.Option("--layers", help="List every layer instead of the stages.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="X.png", help="Figure to write, PNG or SVG.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what each stage learnt over time: the energy of the taps of its temporal kernels.

    centre: share of the middle tap (1 = fresh from `inflate`); off centre: distance from a kernel with only
    that tap, relative to the kernel's norm; alike and difference: shares of the parts that are even and odd
    in time, the latter as for motion. Silent layers are multiplied by zero.

    Example: `transfer3d kernels runs/tuned/model.safetensors -o kernels.png`
    """
    from transfer3d.run.pages.kernels import measure_kernels

    report = measure_kernels(file, out=out)
    if json:
        print_json(report)
        return
    _show(report, layers)
    if out is not None:
        stdout().print(f"wrote {out}")


def _show(report: dict[str, Any], every_layer: bool) -> None:
    from rich.table import Table

    from transfer3d.run.pages.kernels import NO_KERNELS

    if not report["layers"]:
        stdout().print(f"{report['model']}: {NO_KERNELS}")
        return
    table = Table(
        "layer" if every_layer else "stage", "along", "taps", "centre", "off centre", "alike", "difference",
        "energy of the taps", box=None, title=report["model"],
    )  # fmt: skip
    for row in report["layers" if every_layer else "stages"]:
        name = row["layer"] if every_layer else f"{row['stage']} ({row['layers']})"
        if row["centre"] is None:
            table.add_row(name, UNITS[row["axis"]], "", "silent")
            continue
        shares = [f"{row[key]:.1%}" for key in ("symmetric", "antisymmetric")]
        energy = " ".join(f"{share:.2f}" for share in row["energy"])
        first, last = row["offsets"][0], row["offsets"][-1]
        table.add_row(
            name, UNITS[row["axis"]], f"{first:+d}..{last:+d}", f"{row['centre']:.1%}",
            f"{row['off_centre']:.2f}", *shares, energy,
        )  # fmt: skip
    stdout().print(table)
