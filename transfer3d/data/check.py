"""Decodes every video of a source, each within limits, and reports its properties or its fault."""

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
from transfer3d.data.source import is_address, open_shards
from transfer3d.errors import DataError, SetupError

MAX_LATE = 3
"""Maximum number of consecutive videos that a server does not send in time."""


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
    """Returns the number of results of `check_videos`.

    Raises:
        UsageError: no such source.
        DataError: the source has no videos.
    """
    return sum(len(names) for names, _ in _jobs(source))


def check_videos(source: str | Path, *, workers: int, limits: Limits) -> Iterator[Checked]:
    """Decodes every video in child processes and yields the results, in order.

    Args:
        source: a video, a folder of videos, or a local folder or http address of shards, whose members are
            also checked by sha256.
        workers: number of child processes.
        limits: for each video.

    Raises:
        SetupError: a server does not answer any more.
    """
    late = 0  # videos in a row
    for names, answers in _jobs(source):
        for name, answer in zip(names, answers(workers=workers, limits=limits), strict=True):
            late = late + 1 if isinstance(answer, Fault) and answer.is_late else 0
            if late == MAX_LATE and is_address(source):
                raise SetupError(f"{source}: {late} videos in a row did not come in time. Check the server.")
            if isinstance(answer, Fault):
                yield Checked(name, reason=answer.reason)
            else:
                yield Checked(name, **asdict(answer))


def _jobs(source: str | Path) -> list[tuple[list[str], partial[Iterator[VideoInfo | Fault]]]]:
    """Returns the videos' names and the function that checks them, for each part of a source."""
    if (shards := open_shards(source)) is not None:
        store, index = shards
        parts = [ShardVideos(store, index, split=split, labelled=False) for split in index.counts]
        return [
            (list(v.keys), partial(isolated_map, partial(inspect_member, v), range(len(v)))) for v in parts
        ]
    path = existing(Path(source))
    if path is None or not (path.is_file() or path.is_dir()):
        raise missing(Path(source), "Give a folder of videos or of shards, or a video.")
    files = [path] if path.is_file() else videos_under(path)
    if not files:
        raise DataError(f"{path}: no videos.")
    root = path.parent if path.is_file() else path
    return [([f.relative_to(root).as_posix() for f in files], partial(isolated_map, inspect_file, files))]
