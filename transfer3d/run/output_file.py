"""Files that a command is about to write."""

from __future__ import annotations

from pathlib import Path

from transfer3d.errors import UsageError
from transfer3d.files import refuse_unwritable


def refuse_existing(path: Path, force: bool) -> None:
    """Raises UsageError where something is at `path` already, unless it may be overwritten.

    Raises:
        SetupError: nothing can be written there.
    """
    refuse_unwritable(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists. Give another name with -o, or --force to overwrite it.")
