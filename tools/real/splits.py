"""Training, validation and test videos of any folder of classes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import transfer3d
from transfer3d import UsageError
from transfer3d.data import VideoList, VideoSet

SHARES = {"val": 0.2, "test": 0.25}
"""Of the sources of each class, where the folder has no such split."""


def open_splits(folder: str) -> dict[str, VideoSet]:
    """Returns the sets "train", "val" and "test"; one that the folder lacks is held out of "train".

    Raises:
        UsageError: the folder has no labelled videos, or its splits have other classes.
    """
    sets = {"train": transfer3d.open_videos(folder, split="train", labelled=True)}
    for split, share in SHARES.items():
        try:
            sets[split] = transfer3d.open_videos(folder, split=split, labelled=True)
        except UsageError:
            sets["train"], sets[split] = hold_out(sets["train"], share)
    for split, videos in sets.items():
        if list(videos.classes) != list(sets["train"].classes):
            raise UsageError(
                f"{folder}: {split} has the classes {', '.join(videos.classes)}, train has "
                f"{', '.join(sets['train'].classes)}. Give all splits the same."
            )
    return sets


def hold_out(videos: VideoSet, share: float) -> tuple[VideoSet, VideoSet]:
    """Returns the rest, and a share of the sources of each class; a hash of their names decides.

    Raises:
        UsageError: a class has a single source.
    """
    held: set[str] = set()
    for label in range(len(videos.classes)):
        pairs = zip(videos.sources, videos.labels, strict=True)
        sources = sorted({source for source, other in pairs if other == label}, key=_hash)
        if len(sources) < 2:
            raise UsageError(
                f"class '{videos.classes[label]}' has one source left for training, and a part is to be held "
                "out. Add videos, or give a folder with train, val and test."
            )
        held |= set(sources[: max(round(share * len(sources)), 1)])

    def part(chosen: list[int]) -> VideoSet:
        return VideoList(
            [_file(videos, index) for index in chosen],
            [videos.labels[index] for index in chosen],
            [videos.sources[index] for index in chosen],
            videos.classes,
        )

    inside = [index for index, source in enumerate(videos.sources) if source in held]
    return part(sorted({*range(len(videos))} - {*inside})), part(inside)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _file(videos: VideoSet, index: int) -> Path:
    source = videos.open(index)
    if not isinstance(source, Path):
        raise UsageError("only a folder of files can be divided: give one with train, val and test.")
    return source
