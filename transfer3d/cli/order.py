"""`transfer3d order`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console

MOVES_SHOWN = 3


def order(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint with a classifier.")],
    data: Annotated[str, typer.Option(help=options.LABELLED_DATA)],
    split: options.Split = "test",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The views: dense, p3d, t3d, tsn, v4d, f4d or windows, as in `transfer3d evaluate`.",
        ),
    ] = "dense",
    clips: options.Clips = None,
    crops: options.Crops = None,
    seed: Annotated[int, options.seed("Seed of shuffles and of random clips.")] = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="X.png", help="Bar figure to write, PNG or SVG.")
    ] = None,
    precision: options.Precision = None,
    workers: options.DecodingWorkers = 1,
    json: options.Json = False,
) -> None:
    """Measure the effect of frame order: clips in normal, reversed and shuffled order, and as a still frame.

    A video-level student is also tested with its units reversed and shuffled (V4D, section 4.4).

    Example: `transfer3d order runs/tuned/model.safetensors --data digits/shards -o order.png`
    """
    from transfer3d.evaluation.protocols import named_protocol
    from transfer3d.run.inference.order import measure_orders

    report = measure_orders(
        file,
        data,
        split=split,
        protocol=named_protocol(protocol, clips=clips, crops=crops, seed=seed),
        precision=precision or "auto",
        workers=workers,
        out=out,
        console=progress_console(),
    )
    if report is None:
        return
    if json:
        print_json(report)
    else:
        _show(report)
        if out is not None:
            stdout().print(f"wrote {out}")


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    from transfer3d.insight.order import SHOWN

    table = Table("order", "top-1", "drop", "95 %", "changed", "most frequent changes", box=None)
    for name, row in report["orders"].items():
        first = name == "forward"
        moves = ", ".join(f"{old} > {new} ({count})" for old, new, count in row["moves"][:MOVES_SHOWN])
        drop, low, high = (f"{100 * share:z.1f}" for share in (row["drop"], *row["drop_95"]))
        changes = (drop, f"{low} to {high}", f"{row['changed']:.1%}")
        table.add_row(SHOWN[name], f"{row['top1']:.1%}", *(("", "", "") if first else changes), moves)
    stdout().print(table)
    stdout().print(
        f"{report['scored']} videos; drop: percentage points of top-1, and its 95 % interval; changed: of all"
    )
