"""Which videos and classes a folder holds. Names that begin with a dot are ignored."""

from __future__ import annotations

from pathlib import Path

from transfer3d.data.shards import SUFFIXES
from transfer3d.errors import UsageError, did_you_mean


def videos_under(folder: Path) -> list[Path]:
    """Returns all video files below a folder, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix[1:].lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def class_folders(folder: Path) -> list[str]:
    """Returns the names of the subfolders, sorted."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def missing(path: Path, remedy: str) -> UsageError:
    """Returns the error for a path that does not exist, with the nearest name beside it."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return UsageError(f"{path} does not exist{did_you_mean(path.name, beside)}. {remedy}")


def has_classes(folder: Path) -> bool:
    """Whether a folder has subfolders, and no videos beside them."""
    return bool(class_folders(folder)) and not any(p.parent == folder for p in videos_under(folder))
