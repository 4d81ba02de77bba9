"""Encodes frames as H.264 in MP4: smaller copies, cuts, folders of frames, flow, annotated videos."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePath

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from transfer3d.data.container import (
    FAULTS,
    MAX_PIXELS,
    BadVideo,
    Source,
    faults,
    open_container,
    video_stream,
)
from transfer3d.data.decode import Video
from transfer3d.data.pixels import FLOW_PIX_FMT, Frames, flow_frame
from transfer3d.errors import SetupError
from transfer3d.files import read_regular
from transfer3d.scratch import scratch_folder

Times = Sequence[float] | NDArray[np.float64]
TIME_BASE = Fraction(1, 90_000)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Disk errors."""
CRF = 18  # visually lossless
MUXER = {"fflags": "+bitexact", "movflags": "+faststart"}
"""Options of the MP4 muxer: the index is at the front, so that videos play while loading."""
MAX_PICTURE_BYTES = 1 << 28
PICTURES = (".jpg", ".jpeg", ".png")
FRAME_FOLDER_FPS = 12  # Something-Something v1's


def encode_frames(pictures: Iterable[Frames], times_s: Sequence[float], *, gop: int) -> tuple[bytes, int]:
    """Encodes frames [H, W, 3], at their times; an odd last row or column is cut off.

    Args:
        pictures: frames, all of one size.
        times_s: presentation times, seconds, increasing.
        gop: distance between key frames; there are no B-frames, so that random access is cheap.

    Returns:
        The file, and the number of frames.
    """
    frames = (
        av.VideoFrame.from_ndarray(pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2], format="rgb24")
        for pixels in pictures
    )
    # These options make files 5 % larger, but decoding takes only two thirds of the time.
    options = {"preset": "veryfast", "tune": "fastdecode", "crf": str(CRF)}
    options |= {"g": str(gop), "keyint_min": "1", "bf": "0"}
    return _encode(zip(frames, times_s, strict=False), _mean_rate(times_s), "yuv420p", "libx264", options)


def _mean_rate(times_s: Times) -> Fraction:
    """Returns the mean frames per second; the last frame is assumed to last as long as the average."""
    length = times_s[-1] - times_s[0]
    return Fraction((len(times_s) - 1) / length).limit_denominator(1001) if length > 0 else Fraction(25)


def encode_folder(folder: Path) -> tuple[bytes, int]:
    """Encodes a folder of frames losslessly, in the order of their numbers: JPEG as its YUV, PNG as RGB.

    Raises:
        BadVideo: there is no image, one cannot be decoded, or their sizes differ.
    """
    files = sorted(filter(is_picture, folder.iterdir()), key=_number_and_name)
    if not files:
        raise BadVideo(f"{folder.name}: no pictures in it")
    with faults(f"{folder.name}/{files[0].name}"):
        first = decode_picture(files[0])
    yuv = first.format.name.startswith("yuv")
    pix_fmt = first.format.name if yuv else "rgb24"
    if pix_fmt == "yuvj420p" and (first.width % 2 or first.height % 2):
        pix_fmt = "yuvj444p"

    def frames() -> Iterator[VideoFrame]:
        for path in files:
            with faults(f"{folder.name}/{path.name}"):
                frame = decode_picture(path)
            if (frame.width, frame.height) != (first.width, first.height):
                sizes = f"{frame.width}x{frame.height}, the first is {first.width}x{first.height}"
                raise BadVideo(f"{folder.name}: {path.name} is {sizes}")
            yield frame.reformat(format=pix_fmt)

    times = ((frame, i / FRAME_FOLDER_FPS) for i, frame in enumerate(frames()))
    codec = "libx264" if yuv else "libx264rgb"
    options = {"preset": "veryfast", "qp": "0", "g": "12", "bf": "0"}
    return _encode(times, Fraction(FRAME_FOLDER_FPS), pix_fmt, codec, options)


def is_picture(path: PurePath) -> bool:
    """Whether a file name is that of an image, and not of what macOS keeps beside it (`._1.jpg`)."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def _number_and_name(path: Path) -> tuple[list[str | int], str]:
    """Returns a key that sorts frame9 before frame10."""
    parts = re.split("([0-9]+)", path.stem)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def encode_flow(planes: Iterable[Frames], times_s: Times) -> tuple[bytes, int]:
    """Encodes optical flow [H, W, 2] uint8 losslessly, in the layout of `flow_frame`.

    Lossless H.264 needs no other reader than videos, and cannot affect a network's accuracy. 240x320 took 5
    to 15 KiB per frame, about as much as FFV1 and as stacked grey frames of x and y; lossy H.264 (crf 10)
    took a third, with errors of 2.

    Args:
        planes: frames of flow, all of one size.
        times_s: see `encode_frames`.

    Returns:
        The file, and the number of frames.
    """
    options = {"preset": "veryfast", "tune": "fastdecode", "qp": "0", "g": "12", "bf": "0"}
    frames = zip(map(flow_frame, planes), times_s, strict=False)
    return _encode(frames, _mean_rate(times_s), FLOW_PIX_FMT, "libx264", options)


def decode_picture(path: Path) -> VideoFrame:
    """Decodes one image file.

    Raises:
        BadVideo: it contains no image.
    """
    options = {"format_whitelist": "jpeg_pipe,png_pipe", "codec_whitelist": "mjpeg,png"}
    options |= {"max_pixels": str(MAX_PIXELS)}
    with av.open(
        io.BytesIO(read_regular(path, MAX_PICTURE_BYTES)), "r", container_options=options
    ) as container:
        for frame in container.decode(video=0):
            return frame
    raise BadVideo(f"{path.parent.name}/{path.name}: no picture in it")


def _encode(
    timed: Iterable[tuple[VideoFrame, float]],
    fps: Fraction,
    pix_fmt: str,
    codec: str,
    options: dict[str, str],
) -> tuple[bytes, int]:
    with new_mp4() as (container, path):
        count = _mux(container, timed, fps, pix_fmt, codec, options)
        container.close()
        return path.read_bytes(), count


def _mux(
    container: OutputContainer,
    timed: Iterable[tuple[VideoFrame, float]],
    fps: Fraction,
    pix_fmt: str,
    codec: str,
    options: dict[str, str],
) -> int:
    """Encodes frames into a file, and returns their number."""
    count, last = 0, -1
    stream = container.add_stream(codec, rate=fps, options=options | {"threads": "1"})
    assert isinstance(stream, VideoStream)
    for frame, time_s in timed:
        if not count:
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
            stream.codec_context.time_base = TIME_BASE
            if pix_fmt.startswith("yuvj"):
                stream.codec_context.color_range = 2
        # Two frames with equal times would become one frame.
        last = max(round(time_s / TIME_BASE), last + 1)
        frame.pts, frame.time_base = last, TIME_BASE
        container.mux(stream.encode(frame))
        count += 1
    if count:
        container.mux(stream.encode())
    return count


def write_film(path: Path, timed: Iterable[tuple[Frames, float]], *, fps: float) -> None:
    """Writes frames as a video for viewing, one at a time: H.264 that every browser can play.

    Args:
        path: path of the new file.
        timed: frames [H, W, 3] of one size, H and W even, with their presentation times in seconds.
        fps: mean rate; the last frame is shown for one such interval.

    Raises:
        OSError: it cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    frames = ((VideoFrame.from_ndarray(pixels, format="rgb24"), time_s) for pixels, time_s in timed)
    options = {"preset": "veryfast", "crf": str(CRF), "g": str(max(round(2 * fps), 1))}
    try:
        with av.open(str(path), "w", format="mp4", options=MUXER) as container:
            _mux(container, frames, rate, "yuv420p", "libx264", options)
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


@contextmanager
def new_mp4() -> Iterator[tuple[OutputContainer, Path]]:
    """Opens an MP4 file that is removed at the end.

    Raises:
        SetupError: the temporary folder is full.
    """
    with scratch_folder() as folder:
        path = folder / "video.mp4"
        try:
            with av.open(str(path), "w", format="mp4", options=MUXER) as container:
                yield container, path
        except (FFmpegError, OSError) as error:
            if error.errno in FULL:  # not a fault of the video
                raise SetupError(
                    f"{folder.parent} is full ({error.strerror}). Name another folder with TMPDIR."
                ) from error
            raise


def remux(source: Source, *, name: str) -> bytes | None:
    """Copies the video stream into MP4; None if its codec or times are not supported, or frames change.

    Args:
        source: a decodable video.
        name: for messages.
    """
    try:
        with open_container(source) as read, new_mp4() as (container, path):
            stream = video_stream(read, name)
            copy = container.add_stream_from_template(stream)
            for packet in read.demux(stream):
                if packet.size:
                    packet.stream = copy
                    container.mux(packet)
            container.close()
            content = path.read_bytes()
        with Video(source, name=name) as before, Video(content, name=name) as after:
            same = before.frames == after.frames and all(
                np.array_equal(one, other) for one, other in zip(before.stream(), after.stream(), strict=True)
            )
    except (*FAULTS, OverflowError, TypeError):
        return None
    return content if same else None
