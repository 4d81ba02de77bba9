"""A run folder: one run at a time, and checkpoints that are whole or not there.

    recipe.toml  metrics.jsonl  checkpoints/step-N/  model.safetensors  best.safetensors

A checkpoint is a folder of one safetensors file and one JSON file; `MANIFEST.json`, with their sizes and
digests, is written last, and the folder gets its name only then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.files import Lock, fsync_folder, sha256_file, write_text

RECIPE, LOG, MODEL, FINISHED = "recipe.toml", "metrics.jsonl", "model.safetensors", "finished.json"
TENSORS, STATE, MANIFEST = "state.safetensors", "state.json", "MANIFEST.json"


class RunFolder:
    """The files of one run; holding the object holds the lock.

    Args:
        path: the folder; made if it is not there.
        resume: go on with an unfinished run; without it a folder that holds one is refused.

    Raises:
        SetupError: another process works in the folder, or it cannot be written.
        UsageError: the folder holds a run and `resume` is off.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path, self.checkpoints = path, path / "checkpoints"
        self._lock = Lock(path / ".lock", f"run folder {path}")
        self._sweep()
        holds_run = (path / RECIPE).exists()
        if resume and not holds_run:
            self.close()
            raise UsageError(f"run folder {path} holds no run to go on with. Leave --resume off.")
        if not resume and holds_run:
            finished = "a finished" if self.finished else "an unfinished"
            self.close()
            raise UsageError(
                f"run folder {path} holds {finished} run. Go on with --resume, or choose another with -o.",
            )

    def _sweep(self) -> None:
        """Removes what a process that was killed had begun to write."""
        for partial in list(self.path.rglob(".partial-*")):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Gives the lock back."""
        self._lock.close()

    @property
    def finished(self) -> bool:
        """Whether the run in this folder came to its end."""
        return (self.path / FINISHED).exists()

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Marks the run as done."""
        write_text(self.path / FINISHED, json.dumps(facts, indent=2))

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl.

        Raises:
            SetupError: the disk is full.
        """
        log = self.path / LOG
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SetupError(
                f"{log} cannot be written: {error}. Make room and go on with --resume."
            ) from None

    def forget_after(self, step: int) -> None:
        """Drops the log of steps that the resumed run will do again."""
        log = self.path / LOG
        if log.exists():
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            write_text(log, "".join(line + "\n" for line in kept))

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int
    ) -> None:
        """Writes `checkpoints/step-N` and then removes all but the newest `keep`.

        Raises:
            SetupError: the disk is full; earlier checkpoints are as they were.
        """
        partial, final = self.checkpoints / f".partial-{step}", self.checkpoints / f"step-{step}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
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
                "Make room and go on with --resume."
            ) from None  # fmt: skip
        for old in self._found()[:-keep]:
            shutil.rmtree(old)

    def _found(self) -> list[Path]:
        """Returns the checkpoints, whole or not, oldest first; other folders are none of ours."""
        found = [p for p in self.checkpoints.glob("step-*") if p.name.removeprefix("step-").isdigit()]
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("step-")))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
        """Returns tensors, state and the names of damaged checkpoints that were passed over.

        The newest checkpoint whose sizes and digests hold is taken; none at all gives None.

        Raises:
            WeightsError: there are checkpoints, and none of them is whole.
        """
        damaged: list[str] = []
        for folder in reversed(self._found()):
            if _is_whole(folder):
                state = json.loads((folder / STATE).read_text(encoding="utf-8"))
                return load_file(folder / TENSORS), state, damaged
            damaged.append(folder.name)
        if damaged:
            raise WeightsError(
                f"no checkpoint in {self.checkpoints} is whole ({', '.join(damaged)} damaged). "
                "Start again in another folder with -o."
            )  # fmt: skip
        return None


def _is_whole(folder: Path) -> bool:
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(
            (folder / name).stat().st_size == facts["bytes"] and sha256_file(folder / name) == facts["sha256"]
            for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False
