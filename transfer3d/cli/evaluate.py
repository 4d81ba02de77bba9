"""`transfer3d evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def evaluate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint with a classifier.")],
    data: Annotated[
        str, typer.Option(help="Labelled videos: shard folder, class folders, or what `synth` wrote.")
    ],
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "test",
    clips: Annotated[
        int, typer.Option(min=1, help="Clips spread evenly over each video, scores averaged.")
    ] = 1,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="JSON report to write.")] = None,
    precision: options.Precision = None,
    workers: Annotated[int, typer.Option(min=0, help="Decoding processes.")] = 1,
    json: options.Json = False,
) -> None:
    """Test a checkpoint: top-1, top-5 and per-class accuracy, as JSON.

    Example: `transfer3d evaluate runs/finetune-p3d_tiny-1/model.safetensors --data digits/ --clips 3`
    """
    from transfer3d.run.evaluate import evaluate_file

    report = evaluate_file(
        file,
        data,
        split=split,
        clips=clips,
        precision=precision or "auto",
        workers=workers,
        out=out,
        console=progress_console(),
    )
    if report is None:
        return
    if json:
        print_json(report)
        return
    for name in ("video_top1", "video_top5", "clip_top1", "mean_class_accuracy"):
        stdout().print(f"{name:<20} {report[name]:.1%}")
    stdout().print(f"{'scored/expected':<20} {report['scored']}/{report['expected']}")
