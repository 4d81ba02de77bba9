"""Video files to frames: PyAV, by seek, only the requested frames converted, one FFmpeg thread.

A frame is addressed by its number in presentation order, exactly. Packets are read once without decoding
(1 to 3 ms for a ten-second clip); their sorted presentation times are the table from number to time. So
there is no need for a frame count in the header, a constant rate or a monotonic decoding order. While
decoding, each frame's time is held against the table; where a file's times turn out wrong (some AVI files
with B-frames) the clip is decoded again from the start and its frames are counted.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from transfer3d.data.container_check import is_cut
from transfer3d.data.pixels import Converter, Frames
from transfer3d.errors import DataError

Source = Path | bytes

# What a file may be, by its content, whatever its name: playlists and the like, which open further files or
# addresses, are not on the list. Pictures larger than 8K are refused before memory is taken for them.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,asf,flv,ogg"
MAX_PIXELS = 7680 * 4320
EARLY_S = 0.5
NEAR = 4  # frames that are sooner decoded than passed over by another seek
FAULTS = (av.error.FFmpegError, OSError, UnicodeDecodeError, MemoryError, ValueError)


class BadVideo(DataError):  # noqa: N818 - the name of the thing that is refused
    """A video that cannot be decoded."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

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


class Video:
    """An open video: take it for one clip, as a context manager, and let it go.

    Raises `BadVideo` for whatever is wrong with the file, and nothing else.

    Args:
        source: a path, or the file's bytes.
        name: what messages call it.

    Attributes:
        frames: number of frames.
    """

    def __init__(self, source: Source, *, name: str = "") -> None:
        self._source = source
        self._name = name or (str(source) if isinstance(source, Path) else "video")
        self._converter = Converter()
        with _faults(self._name):
            self._container = _open(source)
            try:
                self._stream = _video_stream(self._container, self._name)
                self._read_table()
            except BaseException:
                self._container.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def info(self) -> VideoInfo:
        """Decodes the first frame and returns what the video is."""
        height, width = self.read(np.zeros(1, np.int64)).shape[1:3]
        return VideoInfo(self.frames, self.fps, height, width, self.frames / self.fps if self.fps else 0.0)

    @property
    def fps(self) -> float:
        """The mean rate, frames per second; 0 where it is not known."""
        if self._timed and self.frames > 1:
            return (self.frames - 1) / float((self._times[-1] - self._times[0]) * self._time_base)
        return float(self._stream.average_rate or self._stream.base_rate or 0)

    def read(self, indices: NDArray[np.int64], *, short_side: int | None = None) -> Frames:
        """Decodes frames by number.

        Args:
            indices: [N], in any order, repeats allowed.
            short_side: frames with a longer short side are scaled down to it, in the decoder.

        Returns:
            RGB, [N, H, W, 3] uint8, upright.
        """
        numbers, place = np.unique(indices, return_inverse=True)
        if numbers[0] < 0 or numbers[-1] >= self.frames:
            raise IndexError(f"{self._name}: frames {numbers[0]} to {numbers[-1]} of {self.frames}")
        with _faults(self._name):
            pictures = self._by_seek(numbers.tolist()) if self._timed else None
            pictures = pictures or self._by_counting(numbers.tolist())
            pictures = [self._rgb(frame, short_side) for frame in pictures]
            return np.stack([pictures[i] for i in place])

    def seconds(self) -> NDArray[np.float64]:
        """Returns each frame's time, seconds after the first; by the rate where times are wrong."""
        if self._timed:
            return (np.array(self._times) - self._times[0]) * float(self._time_base)
        return np.arange(self.frames) / float(self._stream.average_rate or self._stream.base_rate or 25)

    def stream(self, *, short_side: int | None = None) -> Iterator[Frames]:
        """Yields all frames [H, W, 3] in turn, as `read` does, by one decode from the start."""
        with _faults(self._name):
            for frame in self._decoded():
                yield self._rgb(frame, short_side)

    def check(self) -> None:
        """Decodes all frames.

        Raises:
            BadVideo: one of them is damaged, or there are fewer than the packets promise.
        """
        with _faults(self._name):
            for frame in self._decoded():
                if frame.is_corrupt:
                    raise BadVideo(f"{self._name}: a damaged frame")

    def _decoded(self) -> Iterator[VideoFrame]:
        """Yields all frames of a decode from the start."""
        count = 0
        with _open(self._source) as container:
            for frame in container.decode(_video_stream(container, self._name)):
                count += 1
                yield frame
        if count < self.frames:
            raise BadVideo(f"{self._name}: {count} of {self.frames} frames decode")

    def _read_table(self) -> None:
        """Reads all packets, decodes none: the table of presentation times, and the frames to seek to."""
        packets = []
        ends = dict.fromkeys(self._container.streams, 0)
        for packet in self._container.demux():
            if packet.size and packet.pts is not None:
                ends[packet.stream] = max(ends[packet.stream], packet.pts + (packet.duration or 0))
            if packet.size and packet.stream_index == self._stream.index and not packet.is_discard:
                packets.append(packet)
        if not packets:
            raise BadVideo(f"{self._name}: no frames in it")
        self.frames = len(packets)
        if packets[-1].is_corrupt or self._ends_early(ends):
            raise BadVideo(f"{self._name}: truncated after {self.frames} frames")
        self._time_base = packets[0].time_base
        self._times = sorted(p.pts for p in packets if p.pts is not None)
        self._timed = len(set(self._times)) == self.frames
        self._number = {time: i for i, time in enumerate(self._times)}
        # Elsewhere (AVI) presentation times are guesses, which only frames in an unbroken row can prove.
        self._exact_times = self._container.format.name.startswith(("mov,", "matroska,"))
        self._keys = sorted(
            (self._number[p.pts], p.pts, p.pts if p.dts is None else min(p.pts, p.dts))
            for p in packets
            if p.is_keyframe and p.pts is not None
        )

    def _ends_early(self, ends: dict[Stream, int]) -> bool:
        """Whether the file is shorter than it says, by the end of each stream's last packet."""
        with io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if is_cut(file):
                return True
        if max((entry.pos + entry.size for entry in self._stream.index_entries), default=0) > size:
            return True
        if "matroska" not in self._container.format.name:
            return False
        # A live recording has no sizes; but if it was finished it has a length.
        length_s = (self._container.duration or 0) / av.time_base
        last_s = max(float(end * (stream.time_base or 0)) for stream, end in ends.items())
        return last_s < length_s - EARLY_S

    def _by_seek(self, numbers: list[int]) -> list[VideoFrame] | None:
        """Returns the frames with these numbers, or None where the file's times turn out wrong."""
        pictures: list[VideoFrame] = []
        stream: Iterator[VideoFrame] = iter(())
        at: int | None = None  # number of the frame decoded last
        for target in numbers:
            nearest = bisect_right(self._keys, (target, self._times[-1], 0)) - 1
            key, *times = self._keys[nearest] if nearest >= 0 else (0, self._times[0], self._times[0])
            if at is None or key > at + NEAR:
                packets = self._packets_from(key, times)
                if packets is None:
                    return None
                stream, at = self._pictures(packets, numbers), None
            while at != target:
                frame = next(stream, None)
                if frame is None or frame.pts is None:
                    return None
                # A seek may land earlier; pictures before an open group's key frame are incomplete.
                if at is None and frame.pts < self._times[key]:
                    continue
                expected = key if at is None else at + 1
                at = self._number.get(frame.pts, -1)
                if not expected <= at <= (target if self._exact_times else expected):
                    return None
                if at == target:
                    pictures.append(frame)
        return pictures

    def _packets_from(self, key: int, times: Sequence[int]) -> Iterator[Packet] | None:
        """Seeks to a key frame, or before it; None where the demuxer only lands after it.

        Demuxers search by presentation or by decoding time, and some take off an offset first.
        """
        for time in times:
            try:
                self._container.seek(time, stream=self._stream, backward=True)
            except av.error.FFmpegError:
                return None
            packets = self._container.demux(self._stream)
            first = next(packets)
            if first.pts is not None and self._number.get(first.pts, self.frames) <= key:
                return chain([first], packets)
        return None

    def _pictures(self, packets: Iterator[Packet], numbers: list[int]) -> Iterator[VideoFrame]:
        """Yields the frames from here on, but for unwanted ones that no other frame refers to."""
        times = {self._times[number] for number in numbers}
        codec = self._stream.codec_context
        for packet in packets:
            if self._exact_times:
                codec.skip_frame = "NONREF" if packet.size and packet.pts not in times else "DEFAULT"
            yield from packet.decode()

    def _by_counting(self, numbers: list[int]) -> list[VideoFrame]:
        """Returns the frames with these numbers of a decode from the start."""
        pictures: list[VideoFrame] = []
        for number, frame in enumerate(self._decoded()):
            if number == numbers[len(pictures)]:
                pictures.append(frame)
            if len(pictures) == len(numbers):
                return pictures
        raise BadVideo(f"{self._name}: frame {numbers[len(pictures)]} of {self.frames} does not decode")

    def _rgb(self, frame: VideoFrame, short_side: int | None) -> Frames:
        if frame.is_corrupt:
            raise BadVideo(f"{self._name}: a damaged frame")
        return self._converter.rgb(frame, short_side)


def _open(source: Source) -> InputContainer:
    if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
        raise ValueError("empty file")
    # An absolute path is never taken for a protocol ("concat:..."), whatever the file is called.
    file = io.BytesIO(source) if isinstance(source, bytes) else os.path.abspath(source)
    options = {"format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
    return av.open(file, "r", metadata_errors="replace", container_options=options)


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    """Returns the first moving video stream (not a cover picture), set to one thread."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise BadVideo(f"{name}: no video stream (streams: {kinds})")
    codec = moving[0].codec_context
    if codec is None:
        raise BadVideo(f"{name}: no decoder for its video stream")
    if codec.width * codec.height > MAX_PIXELS:
        most = f"{MAX_PIXELS / 1e6:.0f} million pixels"
        raise BadVideo(f"{name}: {codec.width}x{codec.height} is more than {most}")
    codec.thread_type, codec.thread_count = "NONE", 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    return moving[0]


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Turns what the libraries raise for a bad file into `BadVideo`."""
    try:
        yield
    except BadVideo:  # a ValueError too, and already says what is wrong
        raise
    except FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadVideo(f"{name}: does not decode ({reason})") from error
