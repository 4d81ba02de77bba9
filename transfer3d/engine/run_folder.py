"""A run folder: one run at a time, with checkpoints that are complete or absent.

    recipe.toml  metrics.jsonl  checkpoints/step-N/  model.safetensors  best.safetensors

A checkpoint is a folder with one safetensors file and one JSON file. `MANIFEST.json`, with their sizes and
digests, is written last, and only then does the folder get its final name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.files import (
    LOCK,
    Lock,
    fsync_folder,
    parse_json,
    partial_path,
    read_json,
    read_regular,
    refuse_links,
    remove_partials,
    sha256_file,
    write_text,
)
from transfer3d.scratch import remove_abandoned

RECIPE, LOG, MODEL, FINISHED = "recipe.toml", "metrics.jsonl", "model.safetensors", "finished.json"
BEST = "best.safetensors"
STARTED = "started.json"
"""The inputs and settings that a command's run was started with, for its report."""
CONFIG = "trainer.json"
"""The configuration of a run that was started from Python; a command's run has its recipe instead."""
FREE = ("workers", "log_every", "save_every", "tracker")
"""Keys of a recipe or configuration that may change when a run is resumed."""
CHECKPOINTS = "checkpoints"
CHECKPOINT = re.compile("step-[0-9]{1,18}")
TENSORS, STATE, MANIFEST = "state.safetensors", "state.json", "MANIFEST.json"
MAX_LOG_BYTES = 1 << 30


class RunFolder:
    """The files of one run; the object holds the folder's lock.

    Args:
        path: the folder; created if it does not exist.
        resume: continue an unfinished run; otherwise a folder with one is refused.
        subfolders: names of further folders that the run writes in it.

    Raises:
        SetupError: another process uses the folder, or it cannot be written.
        UsageError: the folder contains a run and `resume` is off, or one of its own folders is a link.
    """

    def __init__(self, path: Path, *, resume: bool, subfolders: Iterable[str] = ()) -> None:
        self.path, self.checkpoints = path, path / CHECKPOINTS
        refuse_links(path, (CHECKPOINTS, *subfolders))
        self._lock = Lock(path / LOCK, f"run folder {path}")
        remove_partials(path)
        remove_partials(self.checkpoints)
        remove_abandoned()
        try:
            self._check_content(resume)
        except UsageError:
            self.close()
            raise

    def _check_content(self, resume: bool) -> None:
        """Raises UsageError if the folder holds another run than the expected one, or no run."""
        path = self.path
        if (path / RECIPE).exists() or (path / CONFIG).exists():
            if resume:
                return
            if self.finished:
                raise UsageError(
                    f"{path} holds a finished run. To train on, start from {path / MODEL} and choose another "
                    "folder with -o."
                )
            raise UsageError(
                f"{path} holds an unfinished run. Continue it with --resume, or choose another -o."
            )
        if resume:
            raise UsageError(f"{path} holds no run. Leave --resume out.")
        if others := [name for name in (MODEL, BEST, LOG) if os.path.lexists(path / name)]:
            raise UsageError(
                f"{path} has a {others[0]} that is not a run's and would be overwritten. Choose another "
                "folder with -o."
            )

    def close(self) -> None:
        """Releases the lock."""
        self._lock.close()

    @property
    def finished(self) -> bool:
        """Whether the run in this folder has finished."""
        return (self.path / FINISHED).exists()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Marks the run as finished."""
        write_text(self.path / FINISHED, json.dumps(summary, indent=2))

    def write_config(self, config: BaseModel) -> None:
        """Writes the configuration of a run that was started from Python."""
        write_text(self.path / CONFIG, config.model_dump_json(indent=2) + "\n")

    def check_config(self, config: BaseModel) -> None:
        """Raises UsageError if a resumed run was started with another configuration."""
        path = self.path / CONFIG
        if not path.is_file():
            return
        try:
            before: Any = parse_json(read_regular(path, MAX_LOG_BYTES))
            if not isinstance(before, dict):
                raise ValueError("not a table")
        except ValueError as error:
            raise UsageError(f"{path}: damaged ({error}). Start over in another folder.") from None
        now = config.model_dump(mode="json")
        if changed := [
            f"{key}={before.get(key)!r}" for key in now if key not in FREE and before.get(key) != now[key]
        ]:
            raise UsageError(
                f"{self.path} was started with {', '.join(changed)}. Resume with the same values."
            )

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl.

        Raises:
            SetupError: the disk is full.
        """
        log = self.path / LOG
        try:
            with open(log, "a", encoding="utf-8", opener=_without_links) as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SetupError(
                f"{log} cannot be written: {error}. Free some space and continue with --resume."
            ) from None

    def drop_log_after(self, step: int) -> None:
        """Removes damaged log lines and those of steps that the resumed run repeats."""
        log = self.path / LOG
        if not log.exists():
            return
        try:
            lines = read_regular(log, MAX_LOG_BYTES).decode(errors="replace").splitlines()
        except ValueError as error:
            raise UsageError(f"{log}: {error}. Remove it, and continue with --resume.") from None
        write_text(log, "".join(line + "\n" for line in lines if _is_row_until(line, step)))

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int
    ) -> None:
        """Writes `checkpoints/step-N` and then removes all but the newest `keep`.

        Raises:
            SetupError: the disk is full; earlier checkpoints are unchanged.
        """
        final = self.checkpoints / f"step-{step}"
        partial = partial_path(final)
        try:
            partial.mkdir(parents=True)
            if (self.path / LOG).exists():
                with (self.path / LOG).open("rb") as file:
                    os.fsync(file.fileno())
            save_file(dict(tensors), partial / TENSORS)
            write_text(partial / STATE, json.dumps(dict(state)))
            with (partial / TENSORS).open("rb") as file:
                os.fsync(file.fileno())
            files = {
                name: {"bytes": (partial / name).stat().st_size, "sha256": sha256_file(partial / name)}
                for name in (TENSORS, STATE)
            }
            write_text(partial / MANIFEST, json.dumps({"step": step, "files": files}))
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            fsync_folder(self.checkpoints)
        except (OSError, SafetensorError, SetupError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise SetupError(
                f"checkpoint of step {step} in {self.path} cannot be written: {error}. "
                "Free some space and continue with --resume."
            ) from None
        self._remove_older(final, keep)

    def _remove_older(self, newest: Path, keep: int) -> None:
        """Removes all but the newest `keep` checkpoints; damaged ones are not counted."""
        folders = self._checkpoint_folders()[::-1]
        # The digests of the newest, which was just written, need no check.
        whole = (folder for folder in folders if folder == newest or _is_intact(folder, digests=True))
        kept = list(islice(whole, keep))
        older = folders[folders.index(kept[-1]) + 1 :] if len(kept) == keep else []
        for old in filter(_is_intact, older):
            if not old.is_symlink():
                shutil.rmtree(old)

    def _checkpoint_folders(self) -> list[Path]:
        """Returns the checkpoint folders, intact or not, oldest first."""
        folders = [p for p in self.checkpoints.glob("step-*") if CHECKPOINT.fullmatch(p.name)]
        return sorted(folders, key=_step_of)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
        """Returns tensors, state and the names of the damaged checkpoints that were skipped.

        The newest checkpoint whose sizes and digests match is used; None if there is no checkpoint.

        Raises:
            WeightsError: all checkpoints are damaged.
        """
        damaged: list[str] = []
        for folder in reversed(self._checkpoint_folders()):
            if (content := _content(folder)) is not None:
                return *content, damaged
            damaged.append(folder.name)
        if damaged:
            raise WeightsError(
                f"no checkpoint in {self.checkpoints} is intact ({', '.join(damaged)} damaged). "
                "Start over in another folder with -o."
            )
        return None


def _content(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Returns the tensors and the state of a checkpoint; None if it is damaged."""
    if not _is_intact(folder, digests=True):
        return None
    try:
        state = parse_json(read_regular(folder / STATE, MAX_LOG_BYTES))
        return (load_file(folder / TENSORS), state) if state["step"] == _step_of(folder) else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _is_intact(folder: Path, *, digests: bool = False) -> bool:
    """Whether a checkpoint's files have the sizes in its manifest, and with `digests` also the digests."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return set(files) == {TENSORS, STATE} and all(
            (folder / name).stat().st_size == entry["bytes"]
            and (not digests or sha256_file(folder / name) == entry["sha256"])
            for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _without_links(path: str, flags: int) -> int:
    """Opens a run's file for writing, without following links or waiting for the reader of a pipe."""
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags | safe, 0o666)


def _is_row_until(line: str, step: int) -> bool:
    try:
        return parse_json(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False
