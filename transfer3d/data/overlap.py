"""Duplicate videos: in two splits, where they inflate test scores, or in two classes, as label noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from transfer3d.data.shards import ShardVideos
from transfer3d.data.video_list import VideoList
from transfer3d.data.videoset import VideoSet
from transfer3d.files import sha256_file

Video = tuple[VideoSet, int]
"""A video set and the index of a video in it."""


def shared_videos(one: VideoSet, other: VideoSet) -> list[str]:
    """Returns the keys in `other` of videos whose bytes are also in `one`, as far as this is cheap to find.

    Files are only read if their sizes are equal.
    """
    found = list(_digests(one, other))
    first = {digest for (videos, _), digest in found if videos is one}
    return [other.keys[i] for (videos, i), digest in found if videos is other and digest in first]


def contradicting_videos(videos: VideoSet) -> list[str]:
    """Returns the keys of videos whose bytes also occur under another class."""
    labels_of: dict[str, tuple[int, ...]] = {}
    found = []
    for (_, index), digest in _digests(videos):
        if labels_of.setdefault(digest, videos.label_sets[index]) != videos.label_sets[index]:
            found.append(videos.keys[index])
    return found


def _digests(*sets: VideoSet) -> Iterator[tuple[Video, str]]:
    """Yields the digests of all videos in shards, and of files with the same size as another file."""
    files: dict[int, list[tuple[Video, Path]]] = {}
    for videos in sets:
        if isinstance(videos, ShardVideos):
            yield from (((videos, index), digest) for index, digest in enumerate(videos.digests))
            continue
        if not isinstance(videos, VideoList):
            continue
        for index in range(len(videos)):
            path = videos.open(index)
            files.setdefault(path.stat().st_size, []).append(((videos, index), path))
    alike: Iterable[list[tuple[Video, Path]]] = (group for group in files.values() if len(group) > 1)
    for group in alike:
        yield from ((video, sha256_file(path)) for video, path in group)
