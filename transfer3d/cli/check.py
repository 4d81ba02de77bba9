"""`transfer3d check`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def check(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of videos or of shards, or a video.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV of the bad ones.")] = Path("bad_videos.csv"),
    workers: Annotated[int, typer.Option(min=1, help="Children that decode.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time limit for one video.")] = 30.0,
    memory_gib: Annotated[float, typer.Option(min=0.5, help="Memory limit for one video.")] = 4.0,
    json: options.Json = False,
) -> None:
    """Decode every video in a child process with limits, and name the bad ones with the reason.

    Ends with 3 when there is a bad one. A crash or a hang of the decoder costs that file only.

    Example: `transfer3d check videos/ --workers 4`
    """
    from dataclasses import asdict

    from rich.table import Table

    from transfer3d.data.isolated import Limits
    from transfer3d.errors import DataError
    from transfer3d.run.check import check_source

    limits = Limits(seconds, memory_gib)
    checked = check_source(source, workers=workers, limits=limits, report=out, console=progress_console())
    bad = [video for video in checked if video.code]
    if json:
        print_json([asdict(video) for video in checked])
    elif bad:
        table = Table("bad video", "code", "reason", box=None, header_style="bold")
        for video in bad:
            table.add_row(video.path, video.code, video.reason)
        stdout().print(table)
    if bad:
        first = f"first {bad[0].path}: {bad[0].reason}"
        raise DataError("E323", f"{len(bad)} of {len(checked)} videos are bad, {first}. All are in {out}.")
    if not json:
        frames = sum(video.frames or 0 for video in checked)
        stdout().print(f"{source}: {len(checked)} videos, {frames} frames, all good")
