"""`transfer3d check`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder of videos or of shards, a video, or the http address of shards."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="X.csv", help="CSV file for the bad videos, if any.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Decoding processes.")] = 1,
    seconds: Annotated[float, typer.Option(metavar="N", min=0.1, help="Time limit for one video.")] = 30.0,
    memory_gib: Annotated[
        float, typer.Option(metavar="N", min=0.5, help="Memory limit for one video.")
    ] = 4.0,
    browse: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Instead write N augmented clips as film strips to browse/."),
    ] = 0,
    student: Annotated[
        str, typer.Option(help="With --browse: student that takes the clips.")
    ] = "p3d_resnet50",
    recipe: Annotated[
        str, typer.Option(help="With --browse: recipe of the augmentation.")
    ] = "default/finetune",
    overrides: options.Set = None,
    split: Annotated[str, typer.Option(help="With --browse: split of the data.")] = "train",
    json: options.Json = False,
) -> None:
    """Decode every video in a child process with limits, and list the bad ones with the reason.

    The exit code is 3 if any video is bad. A crash or a hang of the decoder only affects that file.

    Example: `transfer3d check videos/ --workers 4`, or `--browse 8` to look at augmented clips.
    """
    from dataclasses import asdict

    from rich.table import Table

    from transfer3d.data.isolated import Limits
    from transfer3d.errors import DataError
    from transfer3d.text import one_line

    if browse:
        from transfer3d.run.datasets.browse import browse as write_strips

        folder = Path("browse")
        written = write_strips(
            source,
            folder,
            count=browse,
            student=student,
            recipe=recipe,
            overrides=overrides or [],
            split=split,
        )
        stdout().print(f"{len(written)} film strips in {folder}/")
        return
    from transfer3d.run.datasets.check import check_source

    limits = Limits(seconds, memory_gib)
    checked = check_source(source, workers=workers, limits=limits, report=out, console=progress_console())
    bad = [video for video in checked if video.reason]
    if json:
        print_json([asdict(video) for video in checked])
    elif bad:
        table = Table("bad video", "reason", box=None, header_style="bold")
        for video in bad:
            table.add_row(one_line(video.path), one_line(video.reason))
        stdout().print(table)
    if bad:
        first = f"first {bad[0].path}: {bad[0].reason}"
        remedy = f"All are in {out}." if out else "To write all to a file, add -o bad_videos.csv."
        raise DataError(f"{len(bad)} of {len(checked)} videos are bad, {first}. {remedy}")
    if not json:
        frames = sum(video.frames or 0 for video in checked)
        count = "1 video" if len(checked) == 1 else f"{len(checked)} videos"
        stdout().print(f"{source}: {count}, {frames} frames, all good")
