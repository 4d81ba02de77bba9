"""`transfer3d shard`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from transfer3d.cli import options
from transfer3d.cli.mistakes import option_error
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console

SHOWN = 5
SECONDS, FLOW_SECONDS = 600.0, 7200.0
"""Time limits for one video."""


def shard(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the dataset, or a CSV list.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the shards.")],
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, ucf101, hmdb51, kinetics, something-v1, something-v2, activitynet, "
            "activitynet-videos (whole), sports1m, csv, folders, pool (unlabelled).",
        ),
    ] = "auto",
    annotations: Annotated[Path | None, typer.Option(help="Folder of the lists, if not in SRC.")] = None,
    fold: Annotated[int, typer.Option(metavar="N", min=1, help="Fold of UCF101 and HMDB51: 1, 2 or 3.")] = 1,
    classes: Annotated[
        Path | None, typer.Option(help="File with one class per line: only these, in this order.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(metavar="N", min=16, help="Scale larger videos down to it.")
    ] = None,
    gop: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Frames between key frames; 12 if scaled.")
    ] = None,
    flow: Annotated[
        Literal["tvl1", "dis", "files"] | None,
        typer.Option(
            metavar="KIND",
            help="Pack optical flow instead of frames: computed by TV-L1, by DIS (many times faster), or "
            "read from image files (flow_x_* and flow_y_* in each video's folder, or folders u/ and v/).",
        ),
    ] = None,
    flow_bound: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help="Flow is clipped to +- N pixels per frame, then stored in 8 bits. [default: 20]",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Decoding processes per process.")] = 1,
    per_shard: Annotated[int | None, typer.Option(metavar="N", min=1, help="Videos in a shard.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the shards; default: the folder's.")] = None,
    min_frames: Annotated[int, typer.Option(metavar="N", min=1, help="Skip videos with fewer frames.")] = 2,
    max_bad_fraction: Annotated[float, typer.Option(help="Tolerated share of bad videos.")] = 0.01,
    allow_empty_classes: Annotated[
        bool, typer.Option("--allow-empty-classes", help="Keep classes without videos.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="N", min=0.1, help="Time limit for one video. [default: 600; 7200 with --flow]"),
    ] = None,
    memory_gib: Annotated[
        float, typer.Option(metavar="N", min=0.5, help="Memory limit for one video.")
    ] = 4.0,
    json: options.Json = False,
) -> None:
    """Pack a dataset, or its optical flow, into webdataset shards; every video is decoded once as a check.

    The same command continues an interrupted run. `accelerate launch -m transfer3d shard ...` divides the
    work among processes; the shards are the same.

    --flow needs the extra `flow`: `pip install 'transfer3d[flow]'`. TV-L1 takes a second or more for a frame
    of 256 pixels.

    Example: `transfer3d shard UCF-101/ -o ucf101-shards/ --fold 1 --short-side 256`
    """
    import re
    from dataclasses import asdict

    from pydantic import ValidationError

    from transfer3d.data.datasets.listing import Request, lines
    from transfer3d.data.isolated import Limits
    from transfer3d.data.sharding import ShardConfig
    from transfer3d.errors import UsageError
    from transfer3d.run.datasets.shard import REPORT, shard_dataset

    if classes is not None and not classes.is_file():
        raise UsageError(f"--classes {classes} is not a file. Name a file with one class name per line.")
    if flow is None and flow_bound is not None:
        raise UsageError("--flow-bound needs --flow. Add it.")
    if flow == "files" and (short_side, gop) != (None, None):
        raise UsageError("--flow files keeps the images' size: leave --short-side and --gop out.")
    if flow is not None and gop is not None:
        raise UsageError("--gop is not supported with --flow: leave it out.")
    given = {
        "name": name or re.sub(r"[^\w-]+", "-", source.resolve().stem).strip("-") or "videos",
        "short_side": short_side,
        "gop": gop,
        "per_shard": per_shard,
        "min_frames": min_frames,
        "max_bad_fraction": max_bad_fraction,
        "allow_empty_classes": allow_empty_classes,
    }
    if flow is not None:
        bound = {} if flow_bound is None else {"bound": flow_bound}
        given["flow"] = {"algorithm": flow, "short_side": short_side, **bound}
    try:
        config = ShardConfig.model_validate(given)
    except ValidationError as error:
        raise option_error(error) from None
    report = shard_dataset(
        Request(source, annotations, fold, flow_files=flow == "files"),
        out,
        config,
        layout=layout,
        classes=None if classes is None else [text for _, text in lines(classes)],
        workers=workers,
        limits=Limits(seconds or (SECONDS if flow is None else FLOW_SECONDS), memory_gib),
        console=progress_console(),
    )
    if report is None:
        return
    if json:
        print_json(asdict(report))
        return
    console = stdout()
    packed = ", ".join(
        f"{count} of {report.official[split]} {split}" for split, count in report.packed.items()
    )
    again = " (finished before)" if report.finished_before else ""
    count = "only one class" if report.classes == 1 else f"{report.classes} classes"
    what = f"videos of optical flow ({config.flow})" if config.flow else "videos"
    console.print(f"{out}: {packed} {what}, {count}, from {report.layout}{again}")
    if len(report.suffixes) > 1:
        kinds = ", ".join(f"{number} .{suffix}" for suffix, number in report.suffixes.items())
        console.print(
            f"several suffixes ({kinds}), since MP4 does not support every codec. Programs that read only "
            "one of them miss the others; --gop 12 transcodes all"
        )
    _print_names("missing", report.missing)
    _print_names("bad", [f"{path}: {reason}" for path, reason in report.bad])
    _print_names("not listed", report.extra)
    if report.missing or report.bad or report.extra:
        console.print(f"all of them: {out / REPORT}")


def _print_names(what: str, names: list[str]) -> None:
    """Prints the number of names, and the first few."""
    if names:
        more = ", ..." if len(names) > SHOWN else ""
        stdout().print(f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}")
