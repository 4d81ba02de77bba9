"""A teacher's lessons on disk: what was looked at once is not looked at again.

One file for each flush, `<folder>/<identity>/<process>-<random>.safetensors`: another teacher, be it by its
mean alone, reads another folder, so a changed one never meets old features. Files are only added.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfer3d.files import atomic_path, refuse_unwritable
from transfer3d.objectives.teacher import FrozenTeacher, Lesson

FLUSH_EVERY = 1024
FEATURES, LOGITS, NAMES = "features", "logits", "names"


class LessonCache:
    """Asks the teacher only for what no run has asked it yet.

    Args:
        teacher: frozen.
        folder: for the caches of all teachers.
        scope: what else the pixels depend on, e.g. the size of the crop and the digest of the data.
        process: number of this process: each writes files of its own, and reads all at the start.

    Attributes:
        asked: clips that the teacher had to look at.
        given: clips that a lesson was given for.

    Raises:
        SetupError: nothing can be written in the folder.
    """

    def __init__(self, teacher: FrozenTeacher, folder: Path, *, scope: str, process: int = 0) -> None:
        self.teacher, self.scope, self.process = teacher, scope, process
        self.asked = self.given = 0
        self.folder = folder / teacher.identity()[:32]
        refuse_unwritable(self.folder / NAMES)
        self._known: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._new: list[str] = []
        for path in sorted(self.folder.glob("*.safetensors")):
            self._read(path)

    def __len__(self) -> int:
        return len(self._known)

    def look(self, clips_u8: Tensor, names: Sequence[str]) -> Lesson:
        """Returns what `FrozenTeacher.look` would.

        Args:
            clips_u8: as there.
            names: of the clips; equal names are equal pixels.
        """
        scoped = [f"{self.scope} {name}" for name in names]
        missing = [row for row, name in enumerate(scoped) if name not in self._known]
        if missing:
            lesson = self.teacher.look(clips_u8[missing])
            logits = [None] * len(missing) if lesson.logits_BK is None else list(lesson.logits_BK.cpu())
            for row, features_D, logits_K in zip(missing, lesson.features_BD.cpu(), logits, strict=True):
                self._known[scoped[row]] = (features_D, logits_K)
            self._new += dict.fromkeys(scoped[row] for row in missing)
            self.asked += len(missing)
            if len(self._new) >= FLUSH_EVERY:
                self.flush()
        self.given += len(scoped)
        rows = [self._known[name] for name in scoped]
        logits_BK = [logits_K for _, logits_K in rows if logits_K is not None]
        device = clips_u8.device
        return Lesson(
            torch.stack([features_D for features_D, _ in rows]).to(device),
            torch.stack(logits_BK).to(device) if logits_BK else None,
        )

    def flush(self) -> None:
        """Writes what is new as one more file.

        Raises:
            SetupError: the disk refuses.
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
        """Takes in one file; a damaged one is as good as none, for what it held is computed again."""
        try:
            with safe_open(path, framework="pt") as file:
                names: list[str] = json.loads((file.metadata() or {})[NAMES])
                features_ND = file.get_tensor(FEATURES)
                has_logits = LOGITS in set(file.keys())
                logits = list(file.get_tensor(LOGITS)) if has_logits else [None] * len(names)
        except (SafetensorError, OSError, KeyError, ValueError):
            return
        if len(names) == len(features_ND) == len(logits):
            self._known |= {n: (f, k) for n, f, k in zip(names, features_ND, logits, strict=True)}
