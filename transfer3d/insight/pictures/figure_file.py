"""Figures as files: PNG or SVG, by the file's name."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from transfer3d.errors import UsageError
from transfer3d.files import atomic_path, refuse_unwritable
from transfer3d.insight.pictures.figures import to_png, to_svg

FORMATS = (".png", ".svg")


def check_figure_path(path: Path) -> None:
    """Refuses a path that `write_figure` could not write; errors are those of `check_path`."""
    check_path(path, "pictures", FORMATS)


def check_path(path: Path, what: str, formats: tuple[str, ...]) -> None:
    """Refuses, before any work, a path that cannot be written.

    Args:
        path: of the file.
        what: it is to hold, in the plural.
        formats: suffixes that it may have.

    Raises:
        UsageError: a folder, or another suffix.
        SetupError: nothing can be written there.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name a file, as in picture{formats[0]}.")
    if path.suffix.lower() not in formats:
        raise UsageError(f"{path}: {what} are {' or '.join(formats)}. Name one of them.")
    refuse_unwritable(path)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure atomically.

    Raises:
        SetupError: the place cannot be written.
    """
    picture = to_png(figure) if path.suffix.lower() == ".png" else to_svg(figure).encode("utf-8")
    with atomic_path(path) as partial:
        partial.write_bytes(picture)
