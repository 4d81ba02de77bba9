"""Pictures in motion as a file: GIF by Pillow, MP4 by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from transfer3d.data.transcode import encode_frames
from transfer3d.files import atomic_path
from transfer3d.insight.pictures.figure_file import check_path
from transfer3d.insight.pictures.film import Pictures

FORMATS = (".gif", ".mp4")


def check_animation_path(path: Path) -> None:
    """Refuses a path that `write_animation` could not write; errors are those of `check_path`."""
    check_path(path, "moving pictures", FORMATS)


def write_animation(path: Path, pictures: Sequence[Pictures], *, fps: float) -> None:
    """Writes pictures atomically; the same pictures make the same bytes.

    Args:
        path: ends in .gif, which plays for ever, or in .mp4.
        pictures: uint8 [H, W, 3], all of one size.
        fps: pictures per second.

    Raises:
        SetupError: it cannot be written.
    """
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
