"""The videos of `bench data`: the user's, or generated ones of the usual size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from transfer3d.data.decode import Video
from transfer3d.data.folder import videos_under
from transfer3d.data.sampling import Indices, random_clip
from transfer3d.errors import DataError
from transfer3d.files import atomic_path

LENGTH, STRIDE = 16, 2
SIDES = range(240, 341)
CLIPS = 24  # enough to cover the videos with start positions
GENERATED, FRAMES, FPS, GOP = 4, 250, 25, 100
HEIGHT, WIDTH = 240, 320


@dataclass(frozen=True)
class BenchClip:
    """A clip to decode: a file, and its frames [T]."""

    path: Path
    indices: Indices


def bench_videos(folder: Path | None, scratch: Path) -> list[Path]:
    """Returns generated videos, or a folder's with a short side of 240 to 340 pixels (all, if none has that).

    Args:
        folder: with the user's videos; None = generate.
        scratch: folder for generated videos; existing ones are reused.

    Raises:
        DataError: the folder contains no videos.
    """
    if folder is None:
        return [_generate(scratch / f"{number}.mp4", number) for number in range(GENERATED)]
    files = videos_under(folder)
    if not files:
        raise DataError(f"{folder}: contains no videos.")
    return [path for path in files if _short_side(path) in SIDES] or files


def clips_of(paths: list[Path], count: int = CLIPS) -> list[BenchClip]:
    """Returns random clips of 16 frames at stride 2, cycling through the videos; the same at each call."""
    rng = np.random.default_rng(0)
    clips = []
    for number in range(count):
        path = paths[number % len(paths)]
        with Video(path) as video:
            frames = video.frames
        clips.append(BenchClip(path, random_clip(frames, length=LENGTH, stride=STRIDE, rng=rng)))
    return clips


def _short_side(path: Path) -> int:
    with Video(path) as video:
        info = video.info()
    return min(info.height, info.width)


def _generate(path: Path, seed: int) -> Path:
    """Writes ten seconds of a panning textured image with noise, unless the file exists."""
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (HEIGHT // 8 + 40, WIDTH // 8 + 40, 3), np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)
    offsets = np.cumsum(rng.integers(0, 3, (FRAMES, 2)), 0) % 300

    with atomic_path(path) as partial, av.open(str(partial), "w") as out:
        # B-frames and few key frames, like videos from the web.
        stream = out.add_stream("libx264", rate=FPS, options={"g": str(GOP), "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for down, right in offsets:
            noise = rng.integers(0, 12, (HEIGHT, WIDTH, 1), np.uint8)
            pixels = picture[down : down + HEIGHT, right : right + WIDTH] // 2 + noise
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path
