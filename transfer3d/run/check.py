"""Checks the videos of a source and writes the list of bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from transfer3d.data.check import Checked, check_videos, count_videos
from transfer3d.data.isolated import Limits
from transfer3d.data.videoset import Dropped
from transfer3d.files import write_text
from transfer3d.progress import track
from transfer3d.run.shard import left_out_csv


def check_source(
    source: Path, *, workers: int, limits: Limits, report: Path | None, console: Console
) -> Sequence[Checked]:
    """Returns what came of every video.

    Args:
        source: a video, a folder of videos or of shards.
        workers: children that decode.
        limits: of each video.
        report: CSV file of the bad ones; None writes none.
        console: for progress.
    """
    total = count_videos(source)
    checked = list(
        track(check_videos(source, workers=workers, limits=limits), "checking", total, console=console)
    )
    if report is not None:
        bad = [Dropped(video.path, f"{video.code} {video.reason}") for video in checked if video.code]
        write_text(report, left_out_csv(bad))
    return checked
