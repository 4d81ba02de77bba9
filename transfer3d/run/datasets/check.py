"""Checks the videos of a source and writes the list of bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from transfer3d.data.check import Checked, check_videos, count_videos
from transfer3d.data.folder import log_other_files
from transfer3d.data.isolated import Limits
from transfer3d.data.source import open_shards
from transfer3d.data.videoset import Dropped
from transfer3d.files import refuse_unwritable, write_text
from transfer3d.progress import track
from transfer3d.run.datasets.left_out import left_out_csv


def check_source(
    source: str, *, workers: int, limits: Limits, report: Path | None, console: Console
) -> Sequence[Checked]:
    """Decodes every video and returns the results.

    Args:
        source: a video, a folder of videos or of shards, or the http address of a folder of shards.
        workers: number of decoding processes.
        limits: for each video.
        report: CSV file for the bad videos, written if there are any; None = no file.
        console: for progress.
    """
    if report is not None:
        refuse_unwritable(report)
    total = count_videos(source)
    if Path(source).is_dir() and open_shards(source) is None:
        log_other_files(Path(source))
    checked = list(
        track(check_videos(source, workers=workers, limits=limits), "checking", total, console=console)
    )
    bad = [Dropped(video.path, video.reason) for video in checked if video.reason]
    if report is not None and bad:
        write_text(report, left_out_csv(bad))
    return checked
