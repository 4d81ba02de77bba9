"""The built-in dataset, made once and kept for every command that is given no data."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from transfer3d.data.moving_digits import SynthConfig, synthesise


def builtin_data(console: Console, root: Path | None = None) -> Path:
    """Returns the folder of the moving digits, writing it first where it is not there yet.

    Args:
        console: for progress.
        root: where it is kept; None = the user's cache folder.
    """
    folder = (root or Path.home() / ".cache" / "transfer3d") / "moving-digits"
    synthesise(folder, SynthConfig(), console)
    return folder
