"""The table of a video's frames and their presentation times, built without decoding.

MP4 and MOV have a table of their packets, and Matroska's packets have headers; these are read instead of the
file. Where they are not reliable, and for other formats, all packets are read (1 to 3 ms for a ten-second
clip). Packets without a frame of their own are omitted: leading ones that refer to missing frames, MPEG-4
frames that are not coded, and VP8's hidden reference frames.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from transfer3d.data.container import BadVideo, Source, open_container, raw_file, video_stream
from transfer3d.data.cut import is_cut
from transfer3d.data.matroska import video_blocks
from transfer3d.data.mp4 import composition_offsets
from transfer3d.data.mpeg4 import LONGEST_BYTES, is_packed, not_coded

EARLY_S = 0.5
UNSURE_S = 0.25
"""By how much the end of the last packet may differ from its beginning and delay."""
GROUP = 8
"""In a packed MPEG-4 stream, a short packet belongs to one of this many packets before it."""
COMPARED = 24
"""Number of first packets that are checked against a table that was not read from the packets."""


class _Timing(NamedTuple):
    """A packet, not yet decoded.

    Attributes:
        pts: presentation time, in units of the stream's time base.
        dts: decoding time.
        is_key: whether decoding can start here.
        has_place: whether it is also a packet of the container.
    """

    pts: int | None
    dts: int | None
    is_key: bool
    has_place: bool = True


class FrameTable:
    """The frames of a video stream, in presentation order.

    Args:
        container: newly opened; some or all of its packets are read.
        stream: video stream of the container.
        source: input of the container.
        name: for messages.
        progress: see `Video`.

    Attributes:
        frames: number of frames.
        times: presentation time of each frame, in units of `time_base`, if known for all.
        is_timed: whether each frame has a distinct time.
        are_keys_read: whether the packets showed the key frames, which the file only declares otherwise.
        is_seekable: whether frames can be decoded from a key frame on, and identified by their times.
        number: index of the frame by presentation time.
        keys: index, presentation time and earliest time of each key frame, in order.
        time_base: seconds.

    Raises:
        BadVideo: no frames, or fewer than the file declares.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        source: Source,
        name: str,
        progress: Callable[[], None],
    ) -> None:
        packets = _by_sample_table(container, stream, source) or _by_blocks(
            container, stream, source, progress
        )
        is_new = not packets and not _is_mov(container)
        self.are_keys_read = not packets or not _begins_so(container, stream, packets)
        if not packets or self.are_keys_read:
            packets = _by_reading(container, stream, source, name, progress, is_new=is_new)
        if not packets:
            raise BadVideo(f"{name}: no frames in it")
        packets = _without_leading(container, packets, source, name, progress)
        self.frames = len(packets)
        self.time_base = stream.time_base or Fraction(1)
        self.times = sorted(packet.pts for packet in packets if packet.pts is not None)
        self.is_timed = len(set(self.times)) == self.frames
        self.is_seekable = self.is_timed and not _needs_all_before(container, stream, packets)
        self.number = {time: i for i, time in enumerate(self.times)}
        self.keys = sorted(
            (self.number[p.pts], p.pts, p.pts if p.dts is None else min(p.pts, p.dts))
            for p in packets
            if p.is_key and p.pts is not None
        )


def _by_sample_table(container: InputContainer, stream: VideoStream, source: Source) -> list[_Timing] | None:
    """Returns the packets from the sample table of MP4 and MOV; None if it is not reliable."""
    if not _is_mov(container):
        return None
    entries = stream.index_entries
    if _may_not_be_coded(stream, (entry.size for entry in entries if entry.size)):
        return None
    if _is_cut(stream, source) or any(entry.is_discard for entry in entries):  # hidden by an edit list
        return None
    with raw_file(source) as file:
        offsets = composition_offsets(file, stream.id, len(entries))
    if offsets is None:
        return None
    offsets = offsets - offsets.min(initial=0)
    return [
        _Timing(entry.timestamp + offset, entry.timestamp, entry.is_keyframe)
        for entry, offset in zip(entries, offsets.tolist(), strict=True)
        if entry.size
    ]


def _by_blocks(
    container: InputContainer, stream: VideoStream, source: Source, progress: Callable[[], None]
) -> list[_Timing] | None:
    """Returns the packets from the headers of Matroska's blocks; None if these are not reliable."""
    if not _is_matroska(container):
        return None
    with raw_file(source, buffering=0) as file:
        found = video_blocks(file, progress)
    if found is None or _is_short(container, found.latest * float(stream.time_base or 0) - UNSURE_S):
        return None
    if _may_not_be_coded(stream, found.sizes):
        return None
    is_vp8 = stream.codec_context.name == "vp8"
    return [
        _Timing(time, None, is_key)
        for time, is_key, byte in zip(found.times, found.is_key, found.first_bytes, strict=True)
        if not (is_vp8 and _is_hidden(byte))
    ]


def _begins_so(container: InputContainer, stream: VideoStream, timings: list[_Timing]) -> bool:
    """Whether the first packets, which are read, are those of a table."""
    packets = [packet for packet in islice(container.demux(stream), COMPARED) if packet.size]
    is_vp8 = stream.codec_context.name == "vp8"
    first = [_timing(packet) for packet in packets if not (is_vp8 and _is_hidden(memoryview(packet)[0]))]
    if timings[0].dts is None:
        first = [timing._replace(dts=None) for timing in first]
    # Without a key frame among them, it is unknown where decoding starts.
    return timings[: len(first)] == first and any(timing.is_key for timing in first)


def _by_reading(
    container: InputContainer,
    stream: VideoStream,
    source: Source,
    name: str,
    progress: Callable[[], None],
    *,
    is_new: bool,
) -> list[_Timing]:
    """Returns the packets by reading all of them; `is_new` says that none was read from the container.

    Raises:
        BadVideo: they end before the file's end.
    """
    timings: list[_Timing] = []
    hidden: set[int] = set()
    short: dict[int, bytes] = {}  # of MPEG-4
    before, packed = deque[Packet](maxlen=GROUP), False
    first, ends = b"", dict.fromkeys(container.streams, 0)
    last_is_corrupt, codec = False, stream.codec_context
    with nullcontext(container) if is_new else open_container(source) as unread:
        for packet in unread.demux():
            progress()
            if not packet.size:
                continue
            if packet.pts is not None:
                other = container.streams[packet.stream_index]
                ends[other] = max(ends[other], packet.pts + (packet.duration or 0))
            if packet.stream_index != stream.index or packet.is_discard:
                continue
            if codec.name == "vp8" and _is_hidden(memoryview(packet)[0]):
                hidden.add(len(timings))
            if codec.name == "mpeg4" and packet.size <= LONGEST_BYTES:
                short[len(timings)] = bytes(packet)
                packed = packed or any(is_packed(bytes(other)) for other in before)
            before.append(packet)
            first = first or bytes(packet)
            last_is_corrupt = packet.is_corrupt
            timings.append(_timing(packet))
    end_s = max(float(end * (other.time_base or 0)) for other, end in ends.items())
    if timings and (last_is_corrupt or _ends_early(container, stream, source, end_s)):
        raise BadVideo(f"{name}: truncated after {len(timings)} frames")
    if short and not packed:
        hidden |= not_coded(short, (codec.extradata or b"") + first)
    return [timing for number, timing in enumerate(timings) if number not in hidden]


def _needs_all_before(container: InputContainer, stream: VideoStream, packets: list[_Timing]) -> bool:
    """Whether a frame can only be obtained by decoding from the start."""
    # Frames of a GIF are differences to the one before; a palette is sent once.
    if container.format.name == "gif" or stream.codec_context.pix_fmt == "pal8":
        return True
    # In MPEG streams, times of frames that begin within a packet are guesses, which change after a seek.
    return container.format.name in ("mpeg", "mpegts") and not all(packet.has_place for packet in packets)


def _is_mov(container: InputContainer) -> bool:
    return container.format.name.startswith("mov,")


def _is_matroska(container: InputContainer) -> bool:
    return container.format.name.startswith("matroska,")


def _may_not_be_coded(stream: VideoStream, sizes: Iterable[int]) -> bool:
    """Whether some packets of these sizes may be MPEG-4 frames that are not coded, which only they show."""
    return stream.codec_context.name == "mpeg4" and min(sizes, default=0) <= LONGEST_BYTES


def _is_hidden(first_byte: int) -> bool:
    """Whether a packet of VP8 that begins with this byte is not shown (RFC 6386, 9.1)."""
    return not first_byte & 0x10


def _timing(packet: Packet) -> _Timing:
    return _Timing(packet.pts, packet.dts, packet.is_keyframe, packet.pos is not None)


def _ends_early(container: InputContainer, stream: VideoStream, source: Source, end_s: float) -> bool:
    """Whether the file is shorter than declared; `end_s` is the end of its last packet."""
    # A live recording in Matroska has no sizes, but it has a duration if it was finished.
    return (_is_matroska(container) and _is_short(container, end_s)) or _is_cut(stream, source)


def _is_short(container: InputContainer, end_s: float) -> bool:
    return end_s < (container.duration or 0) / av.time_base - EARLY_S


def _is_cut(stream: VideoStream, source: Source) -> bool:
    """Whether the file ends before an element or a packet that it lists."""
    with raw_file(source) as file:
        size = file.seek(0, os.SEEK_END)
        return is_cut(file) or any(entry.pos + entry.size > size for entry in stream.index_entries)


def _without_leading(
    container: InputContainer, packets: list[_Timing], source: Source, name: str, progress: Callable[[], None]
) -> list[_Timing]:
    """Omits packets that precede the first key frame, in file or presentation order, and cannot be decoded.

    Such a recording begins in the middle of a GOP, or with an open GOP.
    """
    first = next((i for i, packet in enumerate(packets) if packet.is_key), 0)
    start = packets[first].pts
    if start is None or (container.format.name == "avi" and not first):
        return packets  # AVI's presentation times are guesses
    leading = {p.pts for i, p in enumerate(packets) if i < first or (p.pts is not None and p.pts < start)}
    if not leading:
        return packets
    with open_container(source) as fresh:
        for frame in fresh.decode(video_stream(fresh, name)):
            progress()
            leading.discard(frame.pts)
            if frame.pts is None or frame.pts >= start:
                break
    return [p for i, p in enumerate(packets) if p.pts not in leading or (p.pts is None and i > first)]
