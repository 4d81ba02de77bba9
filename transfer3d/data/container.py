"""Opens video containers for reading: which are allowed, and what is wrong with a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from transfer3d.data.mp4 import media_end
from transfer3d.errors import DataError

Source = Path | bytes
"""A video: its path, or the bytes of its file."""

# What a file may be, by its content, whatever its name: playlists and the like, which open further files or
# addresses, are not on the list. Pictures larger than 8K are refused before memory is taken for them.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,asf,flv,ogg,gif"
MAX_PIXELS = 7680 * 4320
# The decoders that a file may have opened: those of cameras, editors, players, the web. FFmpeg has some 200
# more, of games and of forgotten programs, which few have read and fuzzers mostly crash.
CODECS = (
    "h263", "h263p", "h264", "hevc", "mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1",
    "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "flv", "vp6", "vp6a", "vp6f", "vp8", "libvpx",
    "vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1", "theora", "rv10", "rv20", "rv30", "rv40", "svq1",
    "svq3", "cinepak", "mjpeg", "png", "gif", "qtrle", "prores", "dnxhd", "cfhd", "dvvideo", "ffv1",
    "huffyuv", "ffvhuff", "utvideo", "v210", "rawvideo",
)  # fmt: skip
# Sound is never decoded, but FFmpeg opens its decoder where the header does not say what it is.
SOUND = (
    "aac", "aac_latm", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "ac3", "eac3", "dca", "opus",
    "libopus", "vorbis", "flac", "alac", "wmav1", "wmav2", "wmapro", "amrnb", "amrwb", "adpcm_ima_wav",
    "adpcm_ima_qt", "adpcm_ms", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be",
    "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_dvd", "pcm_bluray",
)  # fmt: skip
CODEC_OPTIONS = {"codec_whitelist": ",".join(CODECS), "max_pixels": str(MAX_PIXELS)}
# Where FFmpeg would put something in a damaged picture's place, it is to refuse it. Not of H.264, where that
# refuses sound recordings which begin with an open group of pictures; of others it changes little.
STRICT_CODECS, STRICT = ("mjpeg",), {"err_detect": "explode"}
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""IDs of Matroska's outermost elements (RFC 9559)."""
UNKNOWN = 2**32 - 1
FAULTS = (av.error.FFmpegError, OSError, UnicodeDecodeError, MemoryError, ValueError)


class BadVideo(DataError):  # noqa: N818 - the name of the thing that is refused
    """A video that cannot be decoded."""


def open_container(source: Source) -> InputContainer:
    """Opens a file of the allowed formats; raises what the libraries raise."""
    if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
        raise ValueError("empty file")
    # An absolute path is never taken for a protocol ("concat:..."), whatever the file is called.
    file = io.BytesIO(source) if isinstance(source, bytes) else os.path.abspath(source)
    codecs = ",".join((*CODECS, *SOUND))
    options = {"format_whitelist": FORMATS, "codec_whitelist": codecs, "max_pixels": str(MAX_PIXELS)}
    return av.open(file, "r", metadata_errors="replace", container_options=options)


def raw_file(source: Source) -> BinaryIO:
    """Opens the file itself."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """Returns the first moving video stream (not a cover picture), set to one thread.

    Raises:
        BadVideo: there is none, its codec is not allowed, or its pictures are too large.
    """
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise BadVideo(f"{name}: no video stream (streams: {kinds})")
    codec = moving[0].codec_context
    if codec is None:
        raise BadVideo(f"{name}: no decoder for its video stream")
    if codec.name not in CODECS:
        raise BadVideo(f"{name}: its codec, {codec.name}, is not allowed; convert it, for example to H.264")
    if codec.width * codec.height > MAX_PIXELS:
        most = f"{MAX_PIXELS / 1e6:.0f} million pixels"
        raise BadVideo(f"{name}: {codec.width}x{codec.height} is more than {most}")
    codec.thread_type, codec.thread_count = "NONE", 1
    codec.options = (STRICT if codec.name in STRICT_CODECS else {}) | CODEC_OPTIONS
    return moving[0]


def is_cut(file: BinaryIO) -> bool:
    """Whether the file ends within an element of MP4, Matroska or AVI; False where it keeps no sizes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    kind = file.read(4)
    if kind == EBML:
        return _segment_end(file) > size
    if kind == b"RIFF":
        return _riff_end(file) > size
    return media_end(file) > size


@contextmanager
def faults(name: str) -> Iterator[None]:
    """Turns what the libraries raise for a bad file into `BadVideo`."""
    try:
        yield
    except BadVideo:  # a ValueError too, and already says what is wrong
        raise
    except FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadVideo(f"{name}: does not decode ({reason})") from error


def _riff_end(file: BinaryIO) -> int:
    """Returns where the last RIFF chunk ends, 0 where it does not say (a recording that was not closed)."""
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
