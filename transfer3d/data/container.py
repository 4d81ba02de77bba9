"""Opens video containers of allowed formats, and detects damaged files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from transfer3d.errors import DataError

Source = Path | bytes
"""A video: its path, or the bytes of its file."""

# Allowed formats, recognised by content, not by name. Playlists and similar formats, which open further files
# or addresses, are excluded. Frames larger than 8K are refused before memory is allocated.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,asf,flv,ogg,gif"
MAX_PIXELS = 7680 * 4320
# Allowed decoders: the codecs of cameras, editors, players and the web. FFmpeg has some 200 more, for games
# and obsolete programs, which are less reviewed and often crash on fuzzed input.
CODECS = (
    "h263", "h263p", "h264", "hevc", "mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1",
    "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "flv", "vp6", "vp6a", "vp6f", "vp8", "libvpx",
    "vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1", "theora", "rv10", "rv20", "rv30", "rv40", "svq1",
    "svq3", "cinepak", "mjpeg", "png", "gif", "qtrle", "prores", "dnxhd", "cfhd", "dvvideo", "ffv1",
    "huffyuv", "ffvhuff", "utvideo", "v210", "rawvideo",
)  # fmt: skip
# Audio is never decoded, but FFmpeg opens its decoder if the header lacks its parameters.
SOUND = (
    "aac", "aac_latm", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "ac3", "eac3", "dca", "opus",
    "libopus", "vorbis", "flac", "alac", "wmav1", "wmav2", "wmapro", "amrnb", "amrwb", "adpcm_ima_wav",
    "adpcm_ima_qt", "adpcm_ms", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be",
    "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_dvd", "pcm_bluray",
)  # fmt: skip
CODEC_OPTIONS = {"codec_whitelist": ",".join(CODECS), "max_pixels": str(MAX_PIXELS)}
# For these codecs FFmpeg refuses damaged frames instead of concealing the damage. Not for H.264, where it
# would refuse intact recordings that begin with an open GOP; for other codecs it changes little.
STRICT_CODECS, STRICT = ("mjpeg",), {"err_detect": "explode"}
FAULTS = (av.error.FFmpegError, OSError, UnicodeDecodeError, MemoryError, ValueError)


class BadVideo(DataError):  # noqa: N818 - named after what is refused
    """A video that cannot be decoded."""


def open_container(source: Source) -> InputContainer:
    """Opens a file of the allowed formats; errors of the libraries pass through."""
    if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
        raise ValueError("empty file")
    # An absolute path cannot be mistaken for a protocol ("concat:...").
    file = io.BytesIO(source) if isinstance(source, bytes) else os.path.abspath(source)
    codecs = ",".join((*CODECS, *SOUND))
    options = {"format_whitelist": FORMATS, "codec_whitelist": codecs, "max_pixels": str(MAX_PIXELS)}
    return av.open(file, "r", metadata_errors="replace", container_options=options)


def raw_file(source: Source, buffering: int = -1) -> BinaryIO:
    """Opens the file itself; `buffering` is that of `open`."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering)
    return cast(BinaryIO, file)


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """Returns the first moving video stream (not a cover picture), set to one thread.

    Raises:
        BadVideo: there is none, its codec is not allowed, or its frames are too large.
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


@contextmanager
def faults(name: str) -> Iterator[None]:
    """Turns the libraries' errors for a bad file into `BadVideo`."""
    try:
        yield
    except BadVideo:  # may be a ValueError, and is already reported clearly
        raise
    except FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadVideo(f"{name}: does not decode ({reason})") from error
