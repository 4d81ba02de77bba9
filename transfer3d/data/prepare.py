"""Prepares a video for a shard: a full decode as a check, and optionally transcoding or optical flow.

Runs in the children of `isolated`, so it must import quickly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer3d.data.container import BadVideo, Source
from transfer3d.data.datasets.listing import Cut
from transfer3d.data.decode import OpenVideo, Video, VideoInfo
from transfer3d.data.flow import FlowFormat, flow_planes, import_opencv
from transfer3d.data.flow_files import FPS, flow_pairs, read_flow
from transfer3d.data.pixels import Frames
from transfer3d.data.shards import MAX_MEMBER_BYTES, ShardVideos
from transfer3d.data.transcode import CRF, encode_flow, encode_folder, encode_frames, remux

GOP = 12


@dataclass(frozen=True)
class TranscodeJob:
    """How to prepare one video.

    Attributes:
        path: a file, or a folder of frames.
        name: for messages.
        cut: the part to use.
        short_side: larger frames are scaled down to it; None keeps their size.
        gop: distance between key frames; None keeps them, unless transcoding is needed anyway.
        remux: whether a file that is not MP4 is copied into one if its codec allows it.
        min_frames: a video with fewer frames is refused.
        flow: format of the optical flow to compute; None = keep the frames.
    """

    path: Path
    name: str
    cut: Cut | None = None
    short_side: int | None = None
    gop: int | None = None
    remux: bool = False
    min_frames: int = 2
    flow: FlowFormat | None = None


@dataclass(frozen=True)
class Prepared:
    """A prepared video.

    Attributes:
        video: the new file's bytes; None if the original file is used.
        frames: number of frames.
        info: entries for the shard's JSON.
    """

    video: bytes | None
    frames: int
    info: dict[str, Any]


def inspect(source: Source, *, name: str, min_frames: int = 1) -> VideoInfo:
    """Decodes all of a video and returns its properties.

    Raises:
        BadVideo: anything is wrong with it, or it has fewer than `min_frames` frames.
    """
    with Video(source, name=name) as video:
        info = video.info()
        video.check()
    _refuse_short(info.frames, min_frames, name)
    return info


def count_frames(path: Path) -> int:
    """Returns the number of frames of a complete file whose first frame can be decoded.

    Raises:
        BadVideo: anything is wrong with it.
    """
    with Video(path, name=path.name) as video:
        return video.info().frames


def inspect_file(path: Path) -> VideoInfo:
    """Decodes all of a video file; see `inspect`."""
    return inspect(path, name=path.name)


def inspect_member(videos: ShardVideos, index: int) -> VideoInfo:
    """Decodes all of a shard's video and compares the digests of its members; see `inspect`."""
    videos.check_others(index)
    return inspect(videos.open(index), name=videos.keys[index])


def prepare(job: TranscodeJob) -> Prepared:
    """Checks a video, and transcodes it if requested.

    Raises:
        BadVideo: anything is wrong with it.
    """
    if job.flow is not None:
        return _prepare_flow(job, job.flow)
    if job.path.is_dir():
        encoded, _ = encode_folder(job.path)
        info = inspect(encoded, name=job.name, min_frames=job.min_frames)
        how = {"transcoded": "frames, H.264 without loss"}
        if job.short_side is None:
            return Prepared(encoded, info.frames, _entries(info) | how)
        return _transcode(encoded, job, how)
    if job.cut is not None or job.short_side is not None or job.gop is not None:
        return _transcode(job.path, job, {})
    if (size := job.path.stat().st_size) > MAX_MEMBER_BYTES:
        raise BadVideo(
            f"{job.name}: {size} bytes, and a video of a shard has at most {MAX_MEMBER_BYTES}; make it "
            "smaller, as with --short-side"
        )
    info = inspect(job.path, name=job.name, min_frames=job.min_frames)
    copy = None
    if job.remux and job.path.suffix.lower() != ".mp4":
        copy = remux(job.path, name=job.name)
    how = {} if copy is None else {"remuxed": "MP4, the same packets"}
    return Prepared(copy, info.frames, _entries(info) | how)


def _prepare_flow(job: TranscodeJob, flow: FlowFormat) -> Prepared:
    if flow.algorithm == "files" and job.cut is not None:
        raise BadVideo(f"{job.name}: a part of a video, and pictures of flow have no times to cut by")
    if flow.algorithm == "files":
        pairs, part = flow_pairs(job.path, name=job.name), {}
        encoded, _ = encode_flow(read_flow(pairs, name=job.name), np.arange(len(pairs)) / FPS)
    else:
        import_opencv().setNumThreads(1)  # several children run in parallel
        source = encode_folder(job.path)[0] if job.path.is_dir() else job.path
        encoded, part = compute_flow(source, flow, name=job.name, cut=job.cut)
    made = inspect(encoded, name=job.name, min_frames=max(job.min_frames - 1, 1))
    return Prepared(encoded, made.frames, _entries(made) | part | {"flow": flow.model_dump()})


def compute_flow(
    source: Source, flow: FlowFormat, *, name: str, cut: Cut | None = None, open_video: OpenVideo = Video
) -> tuple[bytes, dict[str, Any]]:
    """Computes the optical flow of a video.

    Args:
        source: a path, or the file's bytes.
        flow: the format; not "files".
        name: for messages.
        cut: the part to use.
        open_video: decodes in this process or in a child; see `Decoder`.

    Returns:
        The flow as a video file (see `encode_flow`), and the metadata of the cut.

    Raises:
        SetupError: OpenCV is not installed.
        BadVideo: the video cannot be decoded, or has only one frame.
    """
    with open_video(source, name=name) as video:
        seconds = video.seconds()
        chosen, part = _part(seconds, cut, name)
        times = seconds[chosen]
        if len(times) < 2:
            raise BadVideo(f"{name}: one frame has no flow")
        frames = _chosen(video.stream(short_side=flow.short_side), chosen)
        return encode_flow(flow_planes(frames, flow, name=name), times[:-1] - times[0])[0], part


def _transcode(source: Source, job: TranscodeJob, info: dict[str, Any]) -> Prepared:
    gop = job.gop or GOP
    with Video(source, name=job.name) as video:
        chosen, part = _part(video.seconds(), job.cut, job.name)
        times = video.seconds()[chosen]
        pictures = _chosen(video.stream(short_side=job.short_side), chosen)
        encoded, _ = encode_frames(pictures, times - times[0], gop=gop)
    made = inspect(encoded, name=job.name, min_frames=job.min_frames)
    how = f"H.264, crf {CRF}, gop {gop}" + (f", short side {job.short_side}" if job.short_side else "")
    return Prepared(encoded, made.frames, _entries(made) | info | part | {"transcoded": how})


def _part(times: np.ndarray, cut: Cut | None, name: str) -> tuple[range, dict[str, Any]]:
    """Returns the frames of a cut, and its metadata."""
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


def _chosen(stream: Iterator[Frames], chosen: range) -> Iterator[Frames]:
    """Yields the chosen frames; if all are chosen, all is decoded, so that a fault at the end is found."""
    for number, pixels in enumerate(stream):
        if number in chosen:
            yield pixels
        elif number >= chosen.stop:
            return


def _entries(info: VideoInfo) -> dict[str, Any]:
    return {"fps": round(info.fps, 3), "height": info.height, "width": info.width}


def _refuse_short(frames: int, least: int, name: str) -> None:
    if frames < least:
        raise BadVideo(f"{name}: {frames} frames, fewer than {least}")
