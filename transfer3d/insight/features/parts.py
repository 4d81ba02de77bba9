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
from transfer3d.text import shortened

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
            DataError: a part is damaged, or does not fit the others.
        """
        row_of = {key: row for row, key in enumerate(keys)}
        joined: dict[str, Tensor] = {}
        for path in self._files():
            own = _keys_of(path)
            layers = _layers_of(path, len(own))
            if unknown := [key for key in own if key not in row_of]:
                raise _damaged(path, f"{shortened(unknown[0])} is of no video, or in another part too")
            if not joined:
                joined = {
                    name: tensor.new_empty(len(keys), tensor.shape[1]) for name, tensor in layers.items()
                }
            if _widths(layers) != _widths(joined):
                raise _damaged(path, "its layers are not those of the other parts")
            rows = torch.tensor([row_of.pop(key) for key in own], dtype=torch.long)
            for name, tensor in layers.items():
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
    """Returns the keys of a part, each once."""
    try:
        with safe_open(path, framework="pt") as file:
            keys: Any = parse_json(file.metadata()[KEYS], untrusted=True)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("its keys are not a list of names")
        if len(set(keys)) < len(keys):
            raise ValueError("a key appears twice")
        return keys
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _layers_of(path: Path, count: int) -> dict[str, Tensor]:
    """Returns the features of a part with this number of videos."""
    try:
        layers = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if not layers:
        raise _damaged(path, "it holds no features")
    for name, tensor in layers.items():
        is_matrix = tensor.ndim == 2 and len(tensor) == count and tensor.dtype == torch.float32
        if not is_matrix or not tensor.isfinite().all():
            raise _damaged(path, f"'{shortened(name)}' is not {count} rows of finite float32 numbers")
    return layers


def _widths(layers: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: tensor.shape[1] for name, tensor in layers.items()}


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: damaged ({reason}). Remove it, and continue with --resume.")
