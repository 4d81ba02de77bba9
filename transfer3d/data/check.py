"""Every video of a source decoded, each within limits: what it is, or why it is bad."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from transfer3d.data.decode import VideoInfo
from transfer3d.data.folder import existing, missing, videos_under
from transfer3d.data.isolated import Fault, Limits, isolated_map
from transfer3d.data.prepare import inspect_file, inspect_member
from transfer3d.data.shards import ShardVideos
from transfer3d.data.source import open_shards
from transfer3d.errors import DataError


@dataclass(frozen=True)
class Checked:
    """One video: its `VideoInfo`, or the reason why it is bad."""

    path: str
    frames: int | None = None
    fps: float | None = None
    height: int | None = None
    width: int | None = None
    duration: float | None = None
    reason: str = ""


def count_videos(source: str | Path) -> int:
    """Returns how many `check_videos` yields.

    Raises:
        UsageError: no such source.
        DataError: no videos there.
    """
    return sum(len(names) for names, _ in _jobs(source))


def check_videos(source: str | Path, *, workers: int, limits: Limits) -> Iterator[Checked]:
    """Decodes every video in child processes and yields what came of it, in order.

    Args:
        source: a video, a folder of videos, or a folder of shards, here or at an http address, whose
            members are checked by sha256 too.
        workers: number of children.
        limits: of each video.
    """
    for names, answers in _jobs(source):
        for name, answer in zip(names, answers(workers=workers, limits=limits), strict=True):
            if isinstance(answer, Fault):
                yield Checked(name, reason=answer.reason)
            else:
                yield Checked(name, **asdict(answer))


def _jobs(source: str | Path) -> list[tuple[list[str], partial[Iterator[VideoInfo | Fault]]]]:
    """Returns the videos' names, and what checks them, for each part of a source."""
    if (shards := open_shards(source)) is not None:
        store, index = shards
        parts = [ShardVideos(store, index, split=split, labelled=False) for split in index.counts]
        return [
            (list(v.keys), partial(isolated_map, partial(inspect_member, v), range(len(v)))) for v in parts
        ]
    path = existing(Path(source))
    if path is None:
        raise missing(Path(source), "Give a folder of videos or of shards, or a video.")
    files = [path] if path.is_file() else videos_under(path)
    if not files:
        raise DataError(f"{path}: no videos.")
    root = path.parent if path.is_file() else path
    return [([f.relative_to(root).as_posix() for f in files], partial(isolated_map, inspect_file, files))]
