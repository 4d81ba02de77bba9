"""Partial features: files of a few videos each, from which a killed extraction can be resumed.

The folder contains `facts.json`, the metadata of the extraction, and `<process>-<number>.safetensors`:
tensors by layer, keys in the metadata. A part is either complete or absent.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.files import LOCK, Lock, atomic_path, parse_json, read_json, remove_partials, write_text

FACTS, KEYS = "facts.json", "keys"


class FeatureParts:
    """The folder of one extraction; several processes write to it.

    Args:
        folder: folder of the parts.
        process: rank of this process, which writes its own files.
    """

    def __init__(self, folder: Path, process: int = 0) -> None:
        self.folder, self.process = folder, process
        self._lock: Lock | None = None

    def claim(self, metadata: Mapping[str, Any], *, resume: bool) -> None:
        """Locks the folder for this run; called by one process.

        Args:
            metadata: JSON-able metadata of the extraction. Parts of other extractions are refused.
            resume: continue with the existing parts.

        Raises:
            UsageError: there are parts already, and `resume` is off or they are from another extraction.
            SetupError: another run uses the folder, or it cannot be written.
        """
        noted = self.folder / FACTS
        if self.folder.exists() and not noted.is_file():
            others = [path.name for path in self.folder.iterdir() if path.name != LOCK]
            if others:
                raise UsageError(
                    f"{self.folder} holds {others[0]} of something else. Give another name with -o."
                )
        self._lock = Lock(self.folder / LOCK, str(self.folder))
        if noted.exists():
            if not resume:
                raise UsageError(
                    f"{self.folder} holds an unfinished extraction. Continue with --resume, or remove it."
                )
            before = _facts(noted)
            if changed := sorted(name for name in metadata if metadata[name] != before.get(name)):
                raise UsageError(
                    f"{self.folder} is from another extraction: {', '.join(changed)} changed. "
                    "Repeat the first command, or remove the folder."
                )
        write_text(noted, json.dumps(metadata, indent=2) + "\n")

    def keys(self) -> set[str]:
        """Returns the keys of all finished videos."""
        return {key for path in self._files() for key in _keys_of(path)}

    def add(self, keys: Sequence[str], layers: Mapping[str, Tensor]) -> None:
        """Writes a new part: for each layer float32 `N D`, row n of the video `keys[n]`."""
        paths = (self.folder / f"{self.process}-{number:05}.safetensors" for number in itertools.count())
        # Damaged parts that were removed leave gaps in the numbers.
        with atomic_path(next(path for path in paths if not path.exists())) as partial:
            tensors = {name: tensor.contiguous() for name, tensor in layers.items()}
            save_file(tensors, partial, metadata={KEYS: json.dumps(list(keys))})

    def join(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Returns the features of these videos, in this order.

        Raises:
            SetupError: some are missing, since the processes wrote to different disks.
        """
        row_of = {key: row for row, key in enumerate(keys)}
        joined: dict[str, Tensor] = {}
        for path in self._files():
            rows = torch.tensor([row_of.pop(key) for key in _keys_of(path)])
            for name, tensor in load_file(path).items():
                if name not in joined:
                    joined[name] = tensor.new_empty(len(keys), tensor.shape[1])
                joined[name][rows] = tensor
        if row_of:
            raise SetupError(
                f"{self.folder} lacks {len(row_of)} videos, first {next(iter(row_of))}: "
                "all processes must write to one folder. Put -o on a disk that all of them share."
            )
        return joined

    def remove(self) -> None:
        """Removes the parts, and the folder if nothing else is in it: its features are safe elsewhere."""
        remove_partials(self.folder)
        for path in (*self._files(), self.folder / FACTS):
            path.unlink()
        self.release()
        with suppress(OSError):
            self.folder.rmdir()

    def release(self) -> None:
        """Releases the lock of the folder."""
        if self._lock is not None:
            self._lock.close()

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*.safetensors") if path.is_file())


def _facts(path: Path) -> dict[str, Any]:
    """Returns the description of the parts; empty if it is damaged."""
    try:
        facts = read_json(path)
    except ValueError:
        facts = {}
    return facts if isinstance(facts, dict) else {}


def _keys_of(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return parse_json(file.metadata()[KEYS])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}). Remove it, and continue with --resume.") from error
