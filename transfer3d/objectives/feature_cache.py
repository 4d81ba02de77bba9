"""A disk cache of a teacher's outputs, so that no view is computed twice.

Each flush adds one file, `<folder>/<identity>/<process>-<random>.safetensors`. The identity covers everything
that the outputs depend on, so that a changed teacher never reads old features.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfer3d.files import atomic_path, parse_json, refuse_unwritable
from transfer3d.objectives.teacher import FrozenTeacher, TeacherOutput

FLUSH_EVERY = 1024
FEATURES, LOGITS, NAMES = "features", "logits", "names"


class FeatureCache:
    """Runs the teacher only on views that are not cached yet.

    Args:
        teacher: frozen.
        folder: for the caches of all teachers.
        scope: what else the pixels depend on, e.g. the crop size and the digest of the data.
        process: rank of this process: each writes its own files, and reads all files at the start.

    Attributes:
        computed: number of clips that the teacher was run on.
        requested: number of clips whose output was requested.

    Raises:
        SetupError: the folder cannot be written.
    """

    def __init__(self, teacher: FrozenTeacher, folder: Path, *, scope: str, process: int = 0) -> None:
        self.teacher, self.scope, self.process = teacher, scope, process
        self.computed = self.requested = 0
        self.folder = folder / teacher.identity()[:32]
        refuse_unwritable(self.folder / NAMES)
        self._known: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._new: list[str] = []
        for path in sorted(path for path in self.folder.glob("*.safetensors") if path.is_file()):
            self._read(path)

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, clips: Tensor, view_keys: Sequence[str]) -> TeacherOutput:
        """Returns the teacher's output, from the cache where possible.

        Args:
            clips: see `FrozenTeacher.forward`.
            view_keys: keys of the clips; equal keys mean equal pixels.
        """
        scoped = [f"{self.scope} {key}" for key in view_keys]
        missing = [row for row, key in enumerate(scoped) if key not in self._known]
        if missing:
            output = self.teacher(clips[missing])
            logits = [None] * len(missing) if output.logits is None else list(output.logits.cpu())
            for row, features_D, logits_K in zip(missing, output.features.cpu(), logits, strict=True):
                self._known[scoped[row]] = (features_D, logits_K)
            self._new += dict.fromkeys(scoped[row] for row in missing)
            self.computed += len(missing)
            if len(self._new) >= FLUSH_EVERY:
                self.flush()
        self.requested += len(scoped)
        rows = [self._known[key] for key in scoped]
        logits_BK = [logits_K for _, logits_K in rows if logits_K is not None]
        return TeacherOutput(
            torch.stack([features_D for features_D, _ in rows]).to(clips.device),
            torch.stack(logits_BK).to(clips.device) if logits_BK else None,
        )

    def flush(self) -> None:
        """Writes the new outputs to a new file.

        Raises:
            SetupError: the file cannot be written.
        """
        if not self._new:
            return
        rows = [self._known[name] for name in self._new]
        tensors = {FEATURES: torch.stack([features_D for features_D, _ in rows])}
        if rows[0][1] is not None:
            tensors[LOGITS] = torch.stack([logits_K for _, logits_K in rows if logits_K is not None])
        with atomic_path(self.folder / f"{self.process}-{uuid.uuid4().hex[:12]}.safetensors") as partial:
            save_file(tensors, partial, metadata={NAMES: json.dumps(self._new)})
        self._new = []

    def _read(self, path: Path) -> None:
        """Reads one file; a damaged one is ignored, since its outputs are computed again."""
        try:
            with safe_open(path, framework="pt") as file:
                names: Any = parse_json((file.metadata() or {})[NAMES], untrusted=True)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, KeyError, ValueError):
            return
        if isinstance(names, list) and self._are_outputs(names, tensors):
            logits = tensors.get(LOGITS, [None] * len(names))
            self._known |= {n: (f, k) for n, f, k in zip(names, tensors[FEATURES], logits, strict=True)}

    def _are_outputs(self, names: list[Any], tensors: Mapping[str, Tensor]) -> bool:
        """Whether tensors have the form of this teacher's outputs for clips of these names."""
        widths = {FEATURES: self.teacher.num_features, LOGITS: self.teacher.num_classes}
        shapes = {name: (len(names), width) for name, width in widths.items() if width}
        return (
            all(isinstance(name, str) for name in names)
            and {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
            and all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in tensors.values())
        )
