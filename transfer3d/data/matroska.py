"""Lists the packets of Matroska and WebM files (RFC 9559) from the headers of their blocks.

The content is skipped. What does not fit, or what ordinary files lack (lacing of video, encodings, several
video tracks), is left to the caller, who reads the packets.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from struct import Struct, error
from typing import BinaryIO

EBML, SEGMENT, TRACKS, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
TIME, SIMPLE_BLOCK, GROUP, BLOCK, REFERENCE = 0xE7, 0xA3, 0xA0, 0xA1, 0xFB
ANYWHERE = {0xEC, 0xBF}
"""Void, checksum: skipped, as are these: """
IN_SEGMENT = {0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770} | ANYWHERE
"""SeekHead, Info, Cues, Tags, Attachments, Chapters."""
IN_CLUSTER = {0xA7, 0xAB} | ANYWHERE
"""Position, PrevSize."""
IN_GROUP = {0x9B, 0xFA, 0x75A2} | ANYWHERE
"""BlockDuration, ReferencePriority, DiscardPadding."""
TRACK, NUMBER, KIND, CODEC, VIDEO = 0xAE, 0xD7, 0x83, 0x86, b"\x01"
CHANGES = {0x23314F, 0x6D80, 0x56AA}
"""TrackTimestampScale, ContentEncodings, CodecDelay: change times or content."""
DECODING_TIMES = (b"V_MS/", b"V_REAL/")
"""Codecs whose blocks have decoding instead of presentation times."""
KEY, LACING = 0x80, 0x06
"""Flags of a block."""
HEAD = Struct(">BhBB")
"""Start of a block: track, time, flags; then the first byte of the content."""
MASKS = [(1 << 7 * count) - 1 for count in range(9)]
"""All bits of a length, by its number of bytes: means an unknown length."""
WINDOW, LONGEST_HEADER = 48, 12 + HEAD.size
MOST_TRACKS_BYTES, MOST_ELEMENTS = 1 << 20, 5_000_000


class _OddError(Exception):
    """The file has something that only its packets can tell about."""


class _Elements:
    """Reads the headers of elements through a small window on the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size = file, file.seek(0, os.SEEK_END)
        self._window, self._start, self._left = b"", 0, MOST_ELEMENTS

    def header(self, at: int) -> tuple[int, int, int, bytes, int]:
        """Reads the header of the element at a position.

        Returns:
            ID, start and end of the content (-1 = unknown); and read bytes with the content's place in them.
        """
        i = at - self._start
        window = self._window
        if not 0 <= i <= len(window) - LONGEST_HEADER:
            self._file.seek(at)
            window = self._window = self._file.read(WINDOW)
            self._start, i = at, 0
        kind, size = window[i], i + 1
        if kind < 0x80:
            size = i + 9 - kind.bit_length()
            kind = int.from_bytes(window[i:size], "big")
        content = size + 9 - window[size].bit_length()
        length = int.from_bytes(window[size:content], "big") & MASKS[content - size]
        start = self._start + content
        end = start + length
        if length == MASKS[content - size] and kind in (SEGMENT, CLUSTER):
            end = -1
        self._left -= 1
        if size - i > 4 or end > self.size or not self._left:
            raise _OddError
        return kind, start, end, window, content

    def content(self, start: int, end: int, most: int) -> bytes:
        """Reads the content of a short element."""
        if end - start > most:
            raise _OddError
        self._file.seek(start)
        return self._file.read(end - start)


class VideoBlocks:
    """The packets of a file's video track.

    Args:
        file: preferably without a buffer, since little is read at each place.
        progress: called at each cluster.

    Attributes:
        times: presentation times, in units of the file's time scale, in the file's order.
        is_key: whether the file declares that decoding can start here.
        sizes: bytes.
        first_bytes: first byte of each packet.
        latest: latest time of a block of any track.

    Raises:
        _OddError: only the packets can tell.
    """

    def __init__(self, file: BinaryIO, progress: Callable[[], None]) -> None:
        self.times: list[int] = []
        self.is_key: list[bool] = []
        self.sizes: list[int] = []
        self.first_bytes = bytearray()
        self.latest = 0
        self._video, self._tracks = 0, set[int]()
        self._elements = _Elements(file)
        header = self._elements.header
        ebml, _, at, *_ = header(0)
        segment, at, end, *_ = header(at)
        if ebml != EBML or segment != SEGMENT or end not in (-1, self._elements.size):
            raise _OddError
        while at < self._elements.size:
            kind, start, end, *_ = header(at)
            if kind == CLUSTER and self._tracks:
                progress()
                end = self._add_cluster(start, end)
            elif kind == TRACKS and not self._tracks:
                self._add_tracks(self._elements.content(start, end, MOST_TRACKS_BYTES))
            elif kind not in IN_SEGMENT:
                raise _OddError
            at = end

    def _add_tracks(self, content: bytes) -> None:
        for kind, track in _children(content):
            if kind != TRACK:
                continue
            parts = dict(_children(track))
            number = int.from_bytes(parts[NUMBER], "big")
            self._tracks.add(number)
            if parts[KIND] == VIDEO:
                if self._video or CHANGES & parts.keys() or parts[CODEC].startswith(DECODING_TIMES):
                    raise _OddError
                self._video = number

    def _add_cluster(self, at: int, cluster_end: int) -> int:
        """Adds the blocks of a cluster and returns its end."""
        header, last = self._elements.header, self._elements.size if cluster_end < 0 else cluster_end
        base = -1
        while at < last:
            kind, start, end, window, content = header(at)
            if kind == SIMPLE_BLOCK:
                self._add(base, end - start, *HEAD.unpack_from(window, content))
            elif kind == GROUP:
                self._add(base, *self._group(start, end))
            elif kind == TIME and base < 0:
                base = int.from_bytes(self._elements.content(start, end, 8), "big")
            elif cluster_end < 0 and (kind == CLUSTER or kind in IN_SEGMENT - ANYWHERE):
                return at
            elif kind not in IN_CLUSTER:
                raise _OddError
            at = end
        if at != last:
            raise _OddError
        return at

    def _add(self, base: int, size: int, track: int, offset: int, flags: int, first: int) -> None:
        """Adds a block of a cluster with the time `base`."""
        time = base + offset
        # Without this bit, the track's number has more bytes.
        if not track & 0x80 or track & 0x7F not in self._tracks or base < 0 or time < 0 or size < HEAD.size:
            raise _OddError
        if time > self.latest:
            self.latest = time
        if track & 0x7F == self._video:
            if flags & LACING:
                raise _OddError
            self.times.append(time)
            self.is_key.append(flags & KEY != 0)
            self.sizes.append(size - HEAD.size + 1)
            self.first_bytes.append(first)

    def _group(self, at: int, group_end: int) -> tuple[int, int, int, int, int]:
        """Returns what `_add` takes of a group's block; the key flag is that it refers to no other."""
        size, head, key = 0, (0, 0, 0, 0), KEY
        while at < group_end:
            kind, start, at, window, content = self._elements.header(at)
            if kind == BLOCK and not size:
                size, head = at - start, HEAD.unpack_from(window, content)
            elif kind == REFERENCE:
                key = 0
            elif kind not in IN_GROUP:
                raise _OddError
        if at != group_end:
            raise _OddError
        track, offset, flags, first = head
        return size, track, offset, flags & ~KEY | key, first


def video_blocks(file: BinaryIO, progress: Callable[[], None]) -> VideoBlocks | None:
    """Lists the packets of a file's video track; None if only reading them can tell.

    Args:
        file: preferably without a buffer, since little is read at each place.
        progress: called at each cluster.
    """
    try:
        return VideoBlocks(file, progress)
    except (_OddError, IndexError, KeyError, error):  # errors: the file ends within a header
        return None


def _children(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the IDs and contents of the elements in another."""
    elements, at = _Elements(io.BytesIO(content)), 0
    while at < len(content):
        kind, start, at, *_ = elements.header(at)
        yield kind, content[start:at]
