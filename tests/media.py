"""Real encoded videos whose frames carry their number, as eight grey blocks: its bits."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BLOCK = 8


def numbered_frames(count: int, height: int = 48) -> np.ndarray:
    """Returns [count, height, 64, 3] uint8; frame n shows the bits of n, the lowest first."""
    bits = np.arange(count)[:, None] >> np.arange(8) & 1
    rows = np.repeat(bits * 200 + 25, BLOCK, axis=1).astype(np.uint8)
    return np.broadcast_to(rows[:, None, :, None], (count, height, 8 * BLOCK, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """Reads the numbers back from frames [N, H, W, 3] of any size."""
    width = frames.shape[2] / 8
    centres = [int((i + 0.5) * width) for i in range(8)]
    bits = frames[:, frames.shape[1] // 2, centres].mean(-1) > 125
    return (bits @ (1 << np.arange(8))).tolist()


def encode(
    frames: np.ndarray,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    times: list[int] | None = None,
    rotation: dict | None = None,
    muxer: dict[str, str] | None = None,
    full_range: bool = False,
    **options: str,
) -> bytes:
    """Encodes frames; `times` are presentation times in milliseconds."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=fps, options={k: str(v) for k, v in options.items()})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        if full_range:
            stream.codec_context.color_range = 2
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(**rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if full_range:
                frame = frame.reformat(format=pix_fmt, dst_color_range=2)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def audio_only() -> bytes:
    """Returns an MP4 file with a second of silence."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000)
        for i in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def write_numbered(path: Path, count: int = 30, **options) -> Path:
    """Writes one numbered video and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(numbered_frames(count), **options))
    return path


class Here:
    """Opens videos in this process, where a test counts, in place of a `Decoder`."""

    def __init__(self, open_video: type) -> None:
        self.open = open_video

    def close(self) -> None:
        pass

    def cancel(self) -> None:
        pass
