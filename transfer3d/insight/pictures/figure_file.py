"""Figures as files: PNG or SVG, by the file's name."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from transfer3d.errors import UsageError
from transfer3d.files import atomic_path, refuse_unwritable
from transfer3d.insight.pictures.figures import to_png, to_svg

FORMATS = (".png", ".svg")


def check_figure_path(path: Path) -> None:
    """Says before the work what `write_figure` could not do after it.

    Raises:
        UsageError: a folder, or neither PNG nor SVG.
        SetupError: nothing can be written there.
    """
    if path.is_dir():
        raise UsageError("E229", f"{path} is a folder. Name a picture, as in picture.png.")
    if path.suffix.lower() not in FORMATS:
        raise UsageError("E229", f"{path}: pictures are {' or '.join(FORMATS)}. Name one of them.")
    refuse_unwritable(path)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure atomically.

    Raises:
        SetupError: the place cannot be written.
    """
    picture = to_png(figure) if path.suffix.lower() == ".png" else to_svg(figure).encode("utf-8")
    with atomic_path(path) as partial:
        partial.write_bytes(picture)
