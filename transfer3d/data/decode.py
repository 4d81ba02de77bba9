"""Decodes frames of video files with PyAV: by seek, with one FFmpeg thread, converting only requested frames.

A frame is addressed exactly by its index in presentation order. The table from index to time is built from
the packets, so it needs no frame count in the header, constant rate or monotonic decoding order. While
decoding, each frame's time is checked against the table; if a file's times turn out wrong (some AVI files
with B-frames), the clip is decoded again from the start by counting frames.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, Self

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from transfer3d.data.container import BadVideo, Source, faults, open_container, video_stream
from transfer3d.data.frame_table import FrameTable
from transfer3d.data.pixels import Converter, Frames, scaled_rgb
from transfer3d.layout import FLOW_CHANNELS, RGB_CHANNELS

NEAR = 4  # gaps of up to this many frames are decoded faster than skipped by a seek


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video.

    Attributes:
        frames: number of frames.
        fps: mean rate, frames per second.
        height: pixels, as displayed, after rotation.
        width: pixels, as displayed.
        duration: seconds.
    """

    frames: int
    fps: float
    height: int
    width: int
    duration: float


class VideoReader(Protocol):
    """The interface of an open video, wherever it is decoded; see `Video`."""

    @property
    def frames(self) -> int: ...  # noqa: D102
    @property
    def fps(self) -> float: ...  # noqa: D102
    def read(self, indices: NDArray[np.int64], *, short_side: int | None = None) -> Frames: ...  # noqa: D102
    def seconds(self) -> NDArray[np.float64]: ...  # noqa: D102
    def stream(self, *, short_side: int | None = None) -> Iterator[Frames]: ...  # noqa: D102


OpenVideo = Callable[..., AbstractContextManager[VideoReader]]
"""Opens a video like `Video`, by its source, name and channels, in this process or in a child."""


class _WrongTimes(Exception):  # noqa: N818 - never leaves this file
    """The file's times turned out wrong."""


def _no_report() -> None:
    """Reports nothing."""


def empty_frames(shape: tuple[int, ...]) -> Frames:
    """Returns an uninitialised array in this process's memory."""
    return np.empty(shape, np.uint8)


class Video:
    """An open video, used as a context manager.

    All faults of the file are raised as `BadVideo`.

    Args:
        source: a path, or the file's bytes.
        name: for messages.
        channels: 3 = decoded to RGB; 2 = optical flow, as `encode_flow` stores it.
        progress: called after each packet and each frame, to distinguish a hang from long work.
        empty: allocates the array [N, H, W, C] uint8 that `read` fills.

    Attributes:
        frames: number of frames.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "",
        channels: int = RGB_CHANNELS,
        progress: Callable[[], None] = _no_report,
        empty: Callable[[tuple[int, ...]], Frames] = empty_frames,
    ) -> None:
        self._source, self._channels = source, channels
        self._progress, self._empty = progress, empty
        self._name = name or ("video" if isinstance(source, bytes) else str(source))
        self._converter = Converter()
        with faults(self._name):
            self._container = open_container(source)
            try:
                self._stream = video_stream(self._container, self._name)
                self._table = FrameTable(self._container, self._stream, source, self._name, progress)
            except BaseException:
                self._container.close()
                raise
        self.frames = self._table.frames
        # In other formats (AVI) presentation times are guesses, which only consecutive frames can confirm.
        self._exact_times = self._container.format.name.startswith(("mov,", "matroska,"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def info(self) -> VideoInfo:
        """Decodes the first frame and returns the video's properties."""
        height, width = self.read(np.zeros(1, np.int64)).shape[1:3]
        return VideoInfo(self.frames, self.fps, height, width, self.frames / self.fps if self.fps else 0.0)

    @property
    def fps(self) -> float:
        """The mean rate, frames per second; 0 if unknown."""
        if self._table.is_timed and self.frames > 1:
            return (self.frames - 1) / self.seconds()[-1]
        return float(self._stream.average_rate or self._stream.base_rate or 0)

    def read(self, indices: NDArray[np.int64], *, short_side: int | None = None) -> Frames:
        """Decodes frames by index.

        Args:
            indices: [N], in any order, repeats allowed.
            short_side: frames with a longer short side are scaled down to it, in the decoder.

        Returns:
            RGB, [N, H, W, 3] uint8, upright; for flow [N, H, W, 2]. Where a video changes its size, later
            frames are scaled to the first of these.
        """
        numbers, counts = np.unique(indices, return_counts=True)
        if numbers[0] < 0 or numbers[-1] >= self.frames:
            raise IndexError(f"{self._name}: frames {numbers[0]} to {numbers[-1]} of {self.frames}")
        places = np.split(np.argsort(indices, kind="stable"), np.cumsum(counts)[:-1])
        with faults(self._name):
            out: Frames | None = None
            ways = [self._by_counting]
            if self._table.is_seekable:
                ways = [self._by_seek, *ways]
            for frames in ways:
                try:
                    for place, frame in zip(places, frames(numbers.tolist()), strict=True):
                        pixels = self._convert(frame, short_side, None if out is None else out.shape[1:])
                        out = self._empty((len(indices), *pixels.shape)) if out is None else out
                        out[place] = pixels
                    break
                except _WrongTimes:
                    continue
            assert out is not None
            return out

    def seconds(self) -> NDArray[np.float64]:
        """Returns each frame's time, seconds after the first; computed from the rate if times are wrong."""
        if self._table.is_timed:
            return (np.array(self._table.times) - self._table.times[0]) * float(self._table.time_base)
        return np.arange(self.frames) / float(self._stream.average_rate or self._stream.base_rate or 25)

    def stream(self, *, short_side: int | None = None) -> Iterator[Frames]:
        """Yields all frames [H, W, C] in order, like `read`, by one decode from the start."""
        shape: tuple[int, ...] | None = None
        with faults(self._name):
            for frame in self._decoded():
                pixels = self._convert(frame, short_side, shape)
                shape = pixels.shape
                yield pixels

    def check(self) -> None:
        """Decodes all frames.

        Raises:
            BadVideo: one of them is damaged, or there are fewer than packets.
        """
        with faults(self._name):
            for frame in self._decoded():
                if frame.is_corrupt:
                    raise BadVideo(f"{self._name}: a damaged frame")

    def _decoded(self) -> Iterator[VideoFrame]:
        """Yields all frames of a decode from the start."""
        count = 0
        with open_container(self._source) as container:
            for frame in container.decode(video_stream(container, self._name)):
                self._progress()
                count += 1
                yield frame
        if count < self.frames:
            raise BadVideo(f"{self._name}: {count} of {self.frames} frames decode")

    def _by_seek(self, numbers: list[int]) -> Iterator[VideoFrame]:
        """Yields the frames with these indices.

        Raises:
            _WrongTimes: the file's times turn out wrong.
        """
        keys, known = self._table.keys, self._table.times
        stream: Iterator[VideoFrame] = iter(())
        at: int | None = None  # index of the last decoded frame
        for target in numbers:
            nearest = bisect_right(keys, (target, known[-1], 0)) - 1
            key, *times = keys[nearest] if nearest >= 0 else (0, known[0], known[0])
            if at is None or key > at + NEAR:
                packets = self._packets_from(key, times)
                if packets is None:
                    raise _WrongTimes
                stream, at = self._pictures(packets, numbers), None
            while at != target:
                frame = next(stream, None)
                if frame is None or frame.pts is None:
                    raise _WrongTimes
                # A seek may land earlier; frames before an open GOP's key frame are incomplete.
                if at is None and frame.pts < known[key]:
                    continue
                expected = key if at is None else at + 1
                at = self._table.number.get(frame.pts, -1)
                if not expected <= at <= (target if self._exact_times else expected):
                    raise _WrongTimes
                if at == target:
                    yield frame

    def _packets_from(self, key: int, times: Sequence[int]) -> Iterator[Packet] | None:
        """Seeks to a key frame, or before it; None if the demuxer only lands after it.

        Demuxers search by presentation or by decoding time, and some subtract an offset first.
        """
        for time in times:
            try:
                self._container.seek(time, stream=self._stream, backward=True)
            except av.error.FFmpegError:
                return None
            packets = self._container.demux(self._stream)
            first = next(packets)
            if not (first.is_keyframe or self._table.are_keys_read):  # a false declaration
                return None
            if first.pts is not None and self._table.number.get(first.pts, self.frames) <= key:
                return chain([first], packets)
        return None

    def _pictures(self, packets: Iterator[Packet], numbers: list[int]) -> Iterator[VideoFrame]:
        """Yields the frames from here on, skipping unneeded ones that no other frame refers to."""
        times = {self._table.times[number] for number in numbers}
        codec = self._stream.codec_context
        for packet in packets:
            if self._exact_times:
                codec.skip_frame = "NONREF" if packet.size and packet.pts not in times else "DEFAULT"
            self._progress()
            yield from packet.decode()

    def _by_counting(self, numbers: list[int]) -> Iterator[VideoFrame]:
        """Yields the frames with these indices by decoding from the start."""
        left = iter(numbers)
        target = next(left)
        for number, frame in enumerate(self._decoded()):
            if number == target:
                yield frame
                target = next(left, -1)
            if target < 0:
                return
        raise BadVideo(f"{self._name}: frame {target} of {self.frames} does not decode")

    def _convert(self, frame: VideoFrame, short_side: int | None, shape: tuple[int, ...] | None) -> Frames:
        if frame.is_corrupt:
            raise BadVideo(f"{self._name}: a damaged frame")
        convert = self._converter.flow if self._channels == FLOW_CHANNELS else self._converter.rgb
        pixels = convert(frame, short_side)
        if shape is None or pixels.shape == shape:
            return pixels
        if self._channels == FLOW_CHANNELS:
            raise BadVideo(f"{self._name}: its flow changes its size")
        return scaled_rgb(pixels, *shape[:2])
