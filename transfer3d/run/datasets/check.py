"""Checks the videos of a source and writes the list of bad ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console

from transfer3d.data.check import Checked, check_videos, count_videos
from transfer3d.data.folder import log_other_files
from transfer3d.data.isolated import Limits
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.source import open_shards, open_videos
from transfer3d.data.videoset import Dropped
from transfer3d.files import atomic_path, refuse_unwritable, write_text
from transfer3d.insight.pictures.figures import film_strip
from transfer3d.models.registry import entry
from transfer3d.progress import track
from transfer3d.recipes.load import load_recipe
from transfer3d.run.datasets.shard import left_out_csv


def check_source(
    source: str, *, workers: int, limits: Limits, report: Path | None, console: Console
) -> Sequence[Checked]:
    """Returns what came of every video.

    Args:
        source: a video, a folder of videos or of shards, or the http address of a folder of shards.
        workers: children that decode.
        limits: of each video.
        report: CSV file of the bad ones, written if there are any; None writes none.
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


def browse(
    source: str, folder: Path, *, count: int, student: str, recipe: str, overrides: Sequence[str], split: str
) -> list[Path]:
    """Writes augmented training clips as film strips, to look at; returns the pictures.

    Args:
        source: videos, labelled or not.
        folder: where the pictures go.
        count: number of clips.
        student: whose clip is made.
        recipe: whose augmentation is applied.
        overrides: `key=value`, of the recipe.
        split: of the data.
    """
    settings = load_recipe(recipe, overrides, student=student, data=source)
    clip = settings.clip.apply(entry(student).clip)
    videos = open_videos(source, split=split)
    batches = clip_batches(
        videos, clip, batch_size=1, steps=count, seed=settings.seed, augment=settings.augment
    )  # fmt: skip
    pictures = []
    for number, batch in enumerate(islice(batches, count)):
        label, clip_u8 = int(batch.labels[0]), batch.clips[0]
        name = "unlabelled" if label < 0 else re.sub(r"[^\w-]+", "_", videos.classes[label])
        path = folder / f"{number:03d}-{name}.png"
        frames_CTHW = clip_u8.movedim(0, 1).flatten(1, 2) if clip.units > 1 else clip_u8
        with atomic_path(path) as partial:
            partial.write_bytes(film_strip(frames_CTHW.numpy()))
        pictures.append(path)
    return pictures
