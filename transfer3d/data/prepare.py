"""One listed video on its way into a shard: checked by a full decode, and transcoded where that is wanted.

Runs in the children of `isolated`; imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer3d.data.datasets.listing import Cut
from transfer3d.data.decode import BadVideo, Frames, Source, Video, VideoInfo
from transfer3d.data.transcode import CRF, encode_folder, encode_frames

GOP = 12


@dataclass(frozen=True)
class TranscodeJob:
    """What is to be made of one video.

    Attributes:
        path: a file, or a folder of frames.
        name: what messages call it.
        cut: which part of it.
        short_side: larger frames are scaled down to it; None keeps their size.
        gop: frames from one key frame to the next; None keeps them, where nothing else asks for transcoding.
        min_frames: a video with fewer is refused.
    """

    path: Path
    name: str
    cut: Cut | None = None
    short_side: int | None = None
    gop: int | None = None
    min_frames: int = 2


@dataclass(frozen=True)
class Prepared:
    """What came of it.

    Attributes:
        video: the new file's bytes; None where the original's are taken.
        frames: number of them.
        facts: about the video, for the shard.
    """

    video: bytes | None
    frames: int
    facts: dict[str, Any]


def inspect(source: Source, *, name: str, min_frames: int = 1) -> VideoInfo:
    """Decodes all of a video and returns what it is.

    Raises:
        BadVideo: anything is wrong with it, or it has fewer than `min_frames` frames.
    """
    with Video(source, name=name) as video:
        facts = video.info()
        video.check()
    _refuse_short(facts.frames, min_frames, name)
    return facts


def inspect_file(path: Path) -> VideoInfo:
    """Decodes all of a video file; see `inspect`."""
    return inspect(path, name=path.name)


def prepare(order: TranscodeJob) -> Prepared:
    """Checks a video, and makes the wanted copy of it.

    Raises:
        BadVideo: anything is wrong with it.
    """
    if order.path.is_dir():
        encoded, _ = encode_folder(order.path)
        facts = inspect(encoded, name=order.name, min_frames=order.min_frames)
        how = {"transcoded": "frames, H.264 without loss"}
        if order.short_side is None:
            return Prepared(encoded, facts.frames, _facts(facts) | how)
        return _transcode(encoded, order, how)
    if order.cut is not None or order.short_side is not None or order.gop is not None:
        return _transcode(order.path, order, {})
    facts = inspect(order.path, name=order.name, min_frames=order.min_frames)
    return Prepared(None, facts.frames, _facts(facts))


def _transcode(source: Source, order: TranscodeJob, facts: dict[str, Any]) -> Prepared:
    gop = order.gop or GOP
    with Video(source, name=order.name) as video:
        wanted, part = _part(video.seconds(), order.cut, order.name)
        times = video.seconds()[wanted]
        pictures = _chosen(video.stream(short_side=order.short_side), wanted)
        encoded, _ = encode_frames(pictures, times - times[0], gop=gop)
    made = inspect(encoded, name=order.name, min_frames=order.min_frames)
    how = f"H.264, crf {CRF}, gop {gop}" + (f", short side {order.short_side}" if order.short_side else "")
    return Prepared(encoded, made.frames, _facts(made) | facts | part | {"transcoded": how})


def _part(times: np.ndarray, cut: Cut | None, name: str) -> tuple[range, dict[str, Any]]:
    """Returns which frames a cut takes, and what to say of it."""
    if cut is None:
        return range(len(times)), {}
    length = times[-1] + (times[-1] / max(len(times) - 1, 1))
    start = cut.start * max(length - cut.seconds, 0) if cut.relative else cut.start
    first, end = np.searchsorted(times, [start - 1e-9, start + cut.seconds - 1e-9])
    if first == end:
        raise BadVideo(f"{name}: the segment from {start:g} s is not in its {length:.1f} s")
    return range(first, end), {
        "cut": [round(float(start), 3), round(float(min(start + cut.seconds, length)), 3)]
    }


def _chosen(stream: Iterator[Frames], wanted: range) -> Iterator[Frames]:
    """Yields the wanted frames; all is decoded when all is wanted, so that a fault at the end is found."""
    for number, pixels in enumerate(stream):
        if number in wanted:
            yield pixels
        elif number >= wanted.stop:
            return


def _facts(facts: VideoInfo) -> dict[str, Any]:
    return {"fps": round(facts.fps, 3), "height": facts.height, "width": facts.width}


def _refuse_short(frames: int, least: int, name: str) -> None:
    if frames < least:
        raise BadVideo(f"{name}: {frames} frames, fewer than {least}")
