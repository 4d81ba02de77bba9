"""Pictures in motion as a file: GIF by Pillow, MP4 by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from transfer3d.data.transcode import encode_frames
from transfer3d.errors import UsageError
from transfer3d.files import atomic_path
from transfer3d.insight.film import Pictures

FORMATS = (".gif", ".mp4")


def refuse_format(path: Path) -> None:
    """Raises UsageError where a file is to be of another kind."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError("E253", f"{path}: moving pictures are written as {' or '.join(FORMATS)}.")


def write_animation(path: Path, pictures: Sequence[Pictures], *, fps: float) -> None:
    """Writes pictures as the file's name says; the same pictures make the same bytes.

    Args:
        path: ends in .gif, which plays for ever, or in .mp4.
        pictures: uint8 [H, W, 3], all of one size.
        fps: pictures per second.

    Raises:
        UsageError: the name ends otherwise.
        SetupError: it cannot be written.
    """
    refuse_format(path)
    with atomic_path(path) as partial:
        if path.suffix.lower() == ".gif":
            _write_gif(partial, pictures, round(1000 / fps))
        else:
            times = [number / fps for number in range(len(pictures))]
            partial.write_bytes(encode_frames(pictures, times, gop=len(pictures))[0])


def _write_gif(path: Path, pictures: Sequence[Pictures], milliseconds: int) -> None:
    # One palette for all, or still parts would flicker.
    palette = Image.fromarray(np.concatenate(pictures)).quantize(method=Image.Quantize.FASTOCTREE)
    first, *rest = (
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures
    )
    first.save(path, format="gif", save_all=True, append_images=rest, duration=milliseconds, loop=0)
