"""`transfer3d cam`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console

PICTURED = {"strip": "", "film": ""}
"""Columns that are empty for the second network: its heat maps are in the first one's images."""


def cam(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint with a classifier.")],
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Video files, or folders of them.")
    ],
    target: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="Class to explain. [default: each video's top class]"),
    ] = None,
    method: Annotated[
        Literal["auto", "classifier", "gradcam"],
        typer.Option(
            help="classifier: the last feature maps, weighted by the classifier; gradcam: any layer, by "
            "gradients; auto: the deepest layer with a resolution of at least 4x4 positions and 2 time steps."
        ),
    ] = "auto",
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Layer for gradcam, as in `res4`. [default: the last one]"),
    ] = None,
    format: Annotated[
        Literal["gif", "mp4"],
        typer.Option(help="gif: an animation of the centre clip; mp4: the whole video, window by window."),
    ] = "gif",
    beside: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another checkpoint with the same clips, to compare.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("cam"),
    json: options.Json = False,
) -> None:
    """Show where and when videos contain the evidence for a class, as film strips and animations.

    The strip and the GIF show the clip at the video's centre; `--format mp4` covers the whole video.

    Grad-CAM needs the extra `cam`: `pip install 'transfer3d[cam]'`.

    Example: `transfer3d cam model.safetensors holiday.mp4 --format mp4 -o cam/`
    """
    from rich.table import Table

    from transfer3d.run.inference.cam import CamOptions, explain_videos
    from transfer3d.text import one_line

    chosen = CamOptions(target=target, method=method, layer=layer, format=format, beside=beside)
    rows = explain_videos(file, videos, chosen, out=out, console=progress_console())
    if rows is None:
        return
    if json:
        print_json(rows)
        return
    table = Table("video", "true", "predicted", "score", "heat for", "by", "pictures", box=None)
    lines = [line for row in rows for line in (row, *([{**row["beside"], **PICTURED}] if beside else []))]
    for row in lines:
        by = f"{row['method']}, {row['layer']} {'x'.join(map(str, row['maps']))}"
        cells = (
            row["video"],
            row["true"] or "",
            row["predicted"],
            f"{row['score']:.1%}",
            row["class"],
            by,
            f"{row['strip']}, {row['film']}" if row["strip"] else "",
        )
        table.add_row(*map(one_line, cells))
    stdout().print(table)
    if any(row["cells"] == 1 for row in lines):
        stdout().print(
            "maps of 1x1x1 have no resolution in space or time: leave --method out, or name a finer --layer"
        )
    for row in lines:
        if not row["speaks"]:
            stdout().print(
                f"{row['video']}: the clip has no evidence for {row['class']}, so the heat map is empty; "
                "choose another class with --class NAME"
            )
