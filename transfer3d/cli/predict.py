"""`transfer3d predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint with a classifier.")],
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Video files, folders of them, or one of shards.")
    ],
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of classes. [default: 5; 1 with --timeline]"),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Evenly spaced clips per video or window, whose scores are averaged. "
            "[default: 3; as many as cover a window]",
        ),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Slide a window over each video: classes over time.")
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Length of the window. [default: the span of a clip, at least 1]"
        ),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From one window to the next. [default: half a window]"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="X.png", help="Draw one video's timeline, as .png or .svg.")
    ] = None,
    save_video: Annotated[
        Path | None,
        typer.Option(
            metavar="X.mp4", help="Write one video with classes, probabilities and timeline beneath it."
        ),
    ] = None,
    precision: options.Precision = None,
    json: options.Json = False,
    csv: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print CSV: video,rank,class,score; with --timeline video,time_start,time_end,class,score.",
        ),
    ] = False,
) -> None:
    """Predict the top classes of videos, each as a whole or over time.

    `--save-video` writes a video that browsers can play, with the frames and times of the source, without
    sound. It implies `--timeline`.

    Example: `transfer3d predict model.safetensors holiday.mp4 --window 2 --save-video seen.mp4`
    """
    from transfer3d.engine.distributed import is_main_process
    from transfer3d.errors import UsageError

    timeline = timeline or save_video is not None
    if not timeline and (window, stride, plot) != (None, None, None):
        raise UsageError("--window, --stride and --plot need --timeline. Add it.")
    if json and csv:
        raise UsageError("--json and --csv: choose one.")
    for name, seconds in (("window", window), ("stride", stride)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise UsageError(f"--{name} {seconds}: must be more than 0 seconds.")
    shared = {"precision": precision or "auto", "console": progress_console()}
    if timeline:
        from transfer3d.run.inference.timeline import TimelineOptions, predict_timelines

        chosen = TimelineOptions(
            window_s=window, stride_s=stride, clips=clips, top=top or 1, plot=plot, film=save_video
        )
        predictions = predict_timelines(file, videos, chosen, **shared)
        rows = _rows_of_windows(predictions)
    else:
        from transfer3d.run.inference.predict import predict_files

        predictions = predict_files(file, videos, top=top or 5, clips=clips or 3, **shared)
        rows = _rows_of_videos(predictions)
    if not is_main_process():
        return
    if json:
        print_json(predictions)
    elif csv:
        _print_csv(rows)
    else:
        _print_table(rows)


def _rows_of_videos(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"video": video["video"], "rank": rank, **guess}
        for video in predictions
        for rank, guess in enumerate(video["top"], 1)
    ]


def _rows_of_windows(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"video": video["video"], "time_start": window["start"], "time_end": window["end"], **guess}
        for video in predictions
        for window in video["windows"]
        for guess in window["top"]
    ]


def _print_csv(rows: list[dict[str, Any]]) -> None:
    """Prints times to the millisecond, scores to six digits."""
    import csv
    import sys

    from transfer3d.text import cell

    table = csv.writer(sys.stdout)
    table.writerow(rows[0])
    for row in rows:
        times = {name: f"{row[name]:.3f}" for name in row if name.startswith("time")}
        table.writerow(map(cell, (row | times | {"score": f"{row['score']:.6f}"}).values()))


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Prints a table; values that repeat the row above are left blank."""
    from rich.table import Table

    from transfer3d.text import one_line

    timed = "time_start" in rows[0]
    table = Table("video", *(["seconds"] if timed else []), "class", "score", box=None)
    above = ("", "")
    for row in rows:
        video, seconds = row["video"], f"{row['time_start']:.1f} - {row['time_end']:.1f}" if timed else ""
        again = video == above[0], (video, seconds) == above
        cells = ["" if same else one_line(cell) for same, cell in zip(again, (video, seconds), strict=True)]
        table.add_row(*(cells if timed else cells[:1]), one_line(row["class"]), f"{row['score']:.1%}")
        above = video, seconds
    stdout().print(table)
