"""Experiment trackers, from accelerate, which receive every line of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from accelerate.utils import is_tensorboard_available, is_wandb_available

from transfer3d.errors import SetupError


class Tracker(Protocol):
    """Receives every line of the log as it is written."""

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        """Records the values of one step, named `<split>/<name>`."""
        ...


def open_tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> GeneralTracker | None:
    """Starts a tracker; call this on the main process only, and `finish()` at the end.

    Args:
        name: "tensorboard", which writes to `<folder>/tensorboard`; "wandb"; or "none".
        folder: the run's.
        settings: the run's configuration, for the tracker to show.

    Raises:
        SetupError: the tracker's package is not installed, or does not start.
    """
    if name == "none":
        return None
    available = is_tensorboard_available() if name == "tensorboard" else is_wandb_available()
    if not available:
        raise SetupError(
            f"tracker={name} needs a package: pip install transfer3d[{name}], or leave tracker out."
        )
    try:
        tracker: GeneralTracker = (
            TensorBoardTracker("tensorboard", logging_dir=folder)
            if name == "tensorboard"
            else WandBTracker("transfer3d", name=folder.name, dir=str(folder))
        )
        tracker.start()
        tracker.store_init_configuration(_flat(settings))
    except Exception as error:  # a broken or offline installation can raise any type
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SetupError(
            f"tracker={name} does not start ({reason}). Repair its installation, or leave tracker out."
        ) from error
    return tracker


def _flat(settings: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Returns the settings that trackers can show."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in settings.items()
        if value not in (None, {})
    }
