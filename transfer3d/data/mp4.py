"""Reads boxes of MP4 and MOV files (ISO/IEC 14496-12) that FFmpeg does not expose."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MEDIA = (b"mdat", b"moov", b"moof")
TO_OFFSETS = (b"mdia", b"minf", b"stbl", b"ctts")


class Box(NamedTuple):
    """A box: its type, and the start and end of its content in the file, in bytes."""

    kind: bytes
    start: int
    end: int


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yields the boxes that begin between two positions; the last one may extend beyond the file."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        length, content = int.from_bytes(header[:4], "big"), start + 8
        if length == 1:
            length, content = int.from_bytes(header[8:16], "big"), start + 16
        if length < 8:
            return  # a box up to the end of the file, or not a box
        yield Box(header[4:8], content, start + length)
        start += length


def media_end(file: BinaryIO) -> int:
    """Returns the end of the last box with media data; 0 if there is none."""
    ends = [box.end for box in boxes(file, 0, file.seek(0, os.SEEK_END)) if box.kind in MEDIA]
    return ends[-1] if ends else 0


def composition_offsets(file: BinaryIO, track: int, samples: int) -> NDArray[np.int64] | None:
    """Returns each sample's composition offset, presentation minus decoding time, in the track's time units.

    Args:
        file: an MP4 or MOV file.
        track: id of the track.
        samples: number of its samples.

    Returns:
        [samples]; None if the samples are not in one table (fragments) or the table does not match.
    """
    size = file.seek(0, os.SEEK_END)
    outer = {box.kind: box for box in boxes(file, 0, size) if box.end <= size}
    if b"moov" not in outer or b"moof" in outer:
        return None
    for found in _inside(file, outer[b"moov"], b"trak"):
        header = next(_inside(file, found, b"tkhd"), None)
        if header is None or _track(file, header) != track:
            continue
        for kind in TO_OFFSETS:
            found = next(_inside(file, found, kind), None)
            if found is None:
                return np.zeros(samples, np.int64) if kind == b"ctts" else None
        file.seek(found.start + 8)  # version, flags, number of rows
        content = file.read(found.end - found.start - 8)
        rows = np.frombuffer(content[: len(content) // 8 * 8], ">i4").reshape(-1, 2).astype(np.int64)
        counts, offsets = rows.T
        fits = (counts >= 0).all() and counts.sum() == samples
        return offsets.repeat(counts) if fits else None
    return None


def _inside(file: BinaryIO, box: Box, kind: bytes) -> Iterator[Box]:
    return (inner for inner in boxes(file, box.start, box.end) if inner.kind == kind and inner.end <= box.end)


def _track(file: BinaryIO, header: Box) -> int:
    """Reads the id from a track's header; its position depends on the header's version."""
    file.seek(header.start)
    content = file.read(24)
    place = 20 if content[:1] == b"\x01" else 12
    return int.from_bytes(content[place : place + 4], "big")
