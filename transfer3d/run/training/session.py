"""A training command's session: its run folder, its processes and its console."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from accelerate import Accelerator
from rich.console import Console

from transfer3d.data.source import VideoSet
from transfer3d.engine.distributed import (
    leave_cores_to,
    make_accelerator,
    on_main,
    resolve_precision,
    start_heartbeat,
)
from transfer3d.engine.heartbeat import Heartbeat
from transfer3d.engine.run_folder import MODEL, RunFolder
from transfer3d.errors import SetupError, Transfer3dError
from transfer3d.files import write_text
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.recipe_options import resumed_folder


@dataclass
class Session:
    """One run of a training command.

    Attributes:
        recipe: the resolved recipe.
        path: path of the run folder.
        folder: the open run folder; None on all processes but the main one.
        finished: whether the run was finished before.
        resume: whether an unfinished run is continued.
        console: for progress and messages, on the main process.
        heartbeat: between the session's own processes; None if they belong to an outer session.
    """

    recipe: Recipe
    path: Path
    folder: RunFolder | None
    accelerator: Accelerator
    console: Console
    finished: bool = False
    resume: bool = False
    heartbeat: Heartbeat | None = None

    def say(self, line: str) -> None:
        """Prints one line, on the main process."""
        if self.accelerator.is_main_process:
            self.console.print(line, highlight=False, soft_wrap=True)

    def needs_training(self) -> bool:
        """Returns False, and prints a line, if the run is already finished."""
        if self.finished:
            self.say(
                f"{self.path} holds a finished run: nothing to do. To train on, start from "
                f"{self.path / MODEL} with another -o"
            )
        return not self.finished

    def say_dropped(self, videos: VideoSet) -> None:
        """Prints which videos were skipped and why, and how sequentially read videos are shuffled."""
        if videos.sequential_groups:
            self.say(
                "the server does not support byte ranges: whole shards are read, and videos shuffled "
                f"within a buffer of {videos.shuffle_buffer}"
            )
        for dropped in videos.dropped:
            self.say(f"left out {dropped.path}: {dropped.reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object
    ) -> None:
        """Releases the folder and leaves the process group."""
        self.record_end(error)
        if self.folder:
            self.folder.close()
        if self.heartbeat:
            self.heartbeat.close()
            self.accelerator.end_training()

    def record_end(self, error: BaseException | None) -> None:
        """Writes this process's exit code to the run folder, since a launcher would turn it into 1."""
        code = 0 if error is None else error.exit_code if isinstance(error, Transfer3dError) else 1
        rank = self.accelerator.process_index
        with suppress(SetupError):  # a full disk: the original error is the one to report
            outcome = {"exit_code": code, "error": str(error or "")}
            write_text(self.path / f"exit.rank{rank}.json", json.dumps(outcome))


def open_session(
    recipe: Recipe,
    out: Path | None,
    *,
    title: str,
    resume: bool,
    console: Console | None = None,
    accelerator: Accelerator | None = None,
) -> Session:
    """Locks the run folder and sets up the processes.

    Args:
        recipe: the resolved recipe.
        out: run folder; None = `runs/<title>-<n>` with the first free n.
        title: `<command>-<student>`.
        resume: continue the unfinished run in `out`.
        console: console to print to; None = stderr.
        accelerator: accelerator of an outer session; None = create one.
    """
    resumed_folder(out, resume)  # refuses --resume without -o
    precision = resolve_precision(recipe.precision)
    heartbeat = None
    if accelerator is None:
        accelerator = make_accelerator(precision)
        heartbeat = start_heartbeat(accelerator)
    if accelerator.device.type == "cpu":
        leave_cores_to(recipe.workers)
    claimed: list[RunFolder] = []

    def claim() -> bool:
        claimed.append(RunFolder(path, resume=resume, subfolders=recipe.stages))
        return claimed[0].finished

    try:
        path = Path(on_main(accelerator, lambda: str(out or _free_folder(Path("runs"), title))))
        finished = on_main(accelerator, claim)
    except Transfer3dError:
        if heartbeat:
            heartbeat.close()
            accelerator.end_training()
        raise
    folder = claimed[0] if claimed else None
    recipe = recipe.model_copy(update={"precision": precision})
    console = console or Console(stderr=True)
    session = Session(recipe, path, folder, accelerator, console, finished, resume, heartbeat)
    if heartbeat:
        heartbeat.on_hang = session.record_end
    return session


def _free_folder(root: Path, title: str) -> Path:
    number = 1
    while (root / f"{title}-{number}").exists():
        number += 1
    return root / f"{title}-{number}"
