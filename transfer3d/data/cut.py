"""Detects truncated video files, in formats that record the sizes of their parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from transfer3d.data.mp4 import media_end

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""IDs of Matroska's outermost elements (RFC 9559)."""
ASF = bytes.fromhex("3026b2758e66cf11")
"""First bytes of the GUID of ASF's header."""
UNKNOWN = 2**32 - 1
SYNC, PACKET = b"\x47", 188
"""Packets of MPEG transport streams (ISO 13818-1, 2.4.3.2); M2TS adds four bytes before each packet."""
COMPARED = 5
MAX_PARTS = 2_000_000


def is_cut(file: BinaryIO) -> bool:
    """Whether the file ends within one of its parts; False if its format records no sizes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(len(ASF))
    for magic, end in ENDS.items():
        if start.startswith(magic):
            file.seek(len(magic))
            return end(file) > size
    file.seek(0)
    if packet := _packet_size(file):
        return size % packet != 0
    return media_end(file) > size


def _riff_end(file: BinaryIO) -> int:
    """Returns the end of the last RIFF chunk, 0 if its size is missing (a recording that was not closed)."""
    end, kind = 0, b"RIFF"
    while kind == b"RIFF":  # several in files above 1 GiB (OpenDML)
        size = int.from_bytes(file.read(4), "little")
        if size in (0, UNKNOWN):
            return 0
        end += 8 + size
        file.seek(end + end % 2)
        kind = file.read(4)
    return end


def _segment_end(file: BinaryIO) -> int:
    """Returns the end of the Matroska segment, 0 if its size is unknown (a live recording)."""
    header = _length(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    length = _length(file)
    return 0 if length is None else file.tell() + length


def _length(file: BinaryIO) -> int | None:
    """Reads an element's length: the leading zero bits count the bytes that follow; all ones = unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    mask = (1 << (7 * (more + 1))) - 1
    value = int.from_bytes(first + file.read(more), "big") & mask
    return None if value == mask else value


def _asf_end(file: BinaryIO) -> int:
    """Returns the end of ASF's data; 0 for a live recording, which records no size."""
    end = 0
    for least in (30, 50):  # the header, the data
        file.seek(end + 16)
        length = int.from_bytes(file.read(8), "little")
        if length <= least:
            return 0
        end += length
    return end


def _ogg_end(file: BinaryIO) -> int:
    """Returns the end of the last Ogg page (RFC 3533, section 6)."""
    end = 0
    for _ in range(MAX_PARTS):
        file.seek(end)
        head = file.read(27)
        if head[:4] != b"OggS":
            return end if len(head) in (0, 27) else end + 27
        lengths = file.read(head[26]) if len(head) == 27 else b""
        if len(head) < 27 or len(lengths) < head[26]:
            return end + 28 + 255
        end += 27 + len(lengths) + sum(lengths)
    return 0


def _flv_end(file: BinaryIO) -> int:
    """Returns the end of the last FLV tag, including the length after it."""
    file.seek(5)
    end = int.from_bytes(file.read(4), "big") + 4
    for _ in range(MAX_PARTS):
        file.seek(end)
        head = file.read(11)
        if not head or (len(head) == 11 and head[0] & 0x1F not in (8, 9, 18)):  # audio, video, script
            return end
        end += 11 + int.from_bytes(head[1:4], "big") + 4
        if len(head) < 11:
            return end
    return 0


def _gif_end(file: BinaryIO) -> int:
    """Returns the end of the last GIF block (GIF89a, appendix B)."""
    file.seek(10)
    flags = file.read(3)[:1]
    file.seek(_table(flags), os.SEEK_CUR)
    for _ in range(MAX_PARTS):
        kind = file.read(1)
        if kind == b"!":  # an extension
            file.seek(1, os.SEEK_CUR)
        elif kind == b",":  # an image
            file.seek(8, os.SEEK_CUR)
            file.seek(_table(file.read(1)) + 1, os.SEEK_CUR)
        else:
            return 0  # the trailer, nothing, or garbage after the last image
        while length := file.read(1):
            file.seek(length[0], os.SEEK_CUR)
            if not length[0]:
                break
        else:
            return file.tell() + 1
    return 0


def _table(flags: bytes) -> int:
    """Returns the size of a colour table in bytes."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _packet_size(file: BinaryIO) -> int:
    """Returns the packet size of a transport stream; 0 if the file is not one."""
    start = file.read((PACKET + 4) * COMPARED)
    file.seek(0)
    for before in (0, 4):
        signs = start[before :: PACKET + before]
        if len(signs) >= COMPARED and set(signs[:COMPARED]) == set(SYNC):
            return PACKET + before
    return 0


ENDS: dict[bytes, Callable[[BinaryIO], int]] = {
    b"RIFF": _riff_end,
    EBML: _segment_end,
    ASF: _asf_end,
    b"OggS": _ogg_end,
    b"FLV": _flv_end,
    b"GIF8": _gif_end,
}
"""Maps a file's first bytes to the function that finds its end, called at the position after them."""
