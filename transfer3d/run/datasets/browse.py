"""Writes augmented training clips as images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from transfer3d.data.pipeline import clip_batches
from transfer3d.data.source import open_videos
from transfer3d.files import atomic_path
from transfer3d.insight.pictures.figures import film_strip
from transfer3d.models.registry import entry
from transfer3d.recipes.load import load_recipe


def browse(
    source: str, folder: Path, *, count: int, student: str, recipe: str, overrides: Sequence[str], split: str
) -> list[Path]:
    """Writes augmented training clips as film strips for inspection; returns the paths of the images.

    Args:
        source: videos, labelled or not.
        folder: for the images.
        count: number of clips.
        student: determines the clip.
        recipe: determines the augmentation.
        overrides: `key=value` settings of the recipe.
        split: split of the data.
    """
    settings = load_recipe(recipe, overrides, student=student, data=source)
    clip = settings.clip.apply(entry(student).clip)
    videos = open_videos(source, split=split)
    batches = clip_batches(
        videos, clip, batch_size=1, steps=count, seed=settings.seed, augment=settings.augment
    )
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
