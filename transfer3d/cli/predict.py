"""`transfer3d predict`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint with a classifier.")],
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Video files, or folders of them.")
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    clips: Annotated[
        int, typer.Option(min=1, help="Clips spread evenly over each video, scores averaged.")
    ] = 3,
    precision: options.Precision = None,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV: video, rank, class, score.")] = False,
) -> None:
    """Name the top classes of videos.

    Example: `transfer3d predict model.safetensors holiday.mp4 --top 3`
    """
    from rich.table import Table

    from transfer3d.engine.distributed import is_main_process
    from transfer3d.run.predict import predict_videos

    rows = predict_videos(
        file, videos, top=top, clips=clips, precision=precision or "auto", console=progress_console()
    )
    if not is_main_process():
        return
    if json:
        print_json(rows)
    elif csv:
        import csv as writer
        import sys

        table = writer.writer(sys.stdout)
        table.writerow(("video", "rank", "class", "score"))
        for row in rows:
            for rank, guess in enumerate(row["top"], 1):
                table.writerow((row["video"], rank, guess["class"], f"{guess['score']:.6f}"))
    else:
        shown = Table("video", "class", "score", box=None)
        for row in rows:
            for rank, guess in enumerate(row["top"]):
                shown.add_row("" if rank else row["video"], guess["class"], f"{guess['score']:.1%}")
        stdout().print(shown)
