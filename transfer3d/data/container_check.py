"""Whether a file is as long as it says, by the outermost elements of MP4 (ISO 14496-12) and Matroska."""

from __future__ import annotations

import os
from typing import BinaryIO

BOXES = (b"mdat", b"moov", b"moof")
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut(file: BinaryIO) -> bool:
    """Whether the file ends within an element; False where its format keeps no sizes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) == EBML:
        return _segment_end(file) > size
    return _last_box_end(file, size) > size


def _last_box_end(file: BinaryIO, size: int) -> int:
    """Returns where the last MP4 box with contents of a video ends."""
    start = end = 0
    while start + 8 <= size:
        file.seek(start)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:
            break  # to the end of the file, or no box at all
        start += length
        if header[4:8] in BOXES:
            end = start
    return end


def _segment_end(file: BinaryIO) -> int:
    """Returns where Matroska's segment ends, 0 where it does not say (a live recording)."""
    header = _length(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    length = _length(file)
    return 0 if length is None else file.tell() + length


def _length(file: BinaryIO) -> int | None:
    """Reads an element's length: leading zero bits say how many bytes follow; all ones = unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    mask = (1 << (7 * (more + 1))) - 1
    value = int.from_bytes(first + file.read(more), "big") & mask
    return None if value == mask else value
