"""Plain folders of videos, in class folders or flat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from transfer3d.data.decode import BadVideo, Video
from transfer3d.data.shards import SUFFIXES
from transfer3d.data.videoset import Dropped
from transfer3d.errors import DataError

PROBES = 8  # files opened at once; opening leaves the interpreter


class FolderVideos:
    """Video files under one folder, as a `VideoSet`; each is opened once here, bad ones are left out.

    Args:
        root: what keys are relative to; an empty path leaves them as they are.
        files: the videos.
        labels: class of each, or None.
        classes: names, by label.

    Raises:
        DataError: no file is left.
    """

    def __init__(
        self, root: Path, files: Sequence[Path], labels: Sequence[int | None], classes: Sequence[str]
    ) -> None:
        if not files:
            raise DataError(f"{root}: no videos. They end in {', '.join(SUFFIXES)}.")
        with ThreadPoolExecutor(PROBES) as pool:
            reasons = list(pool.map(_reason_against, files))
        good = [i for i, reason in enumerate(reasons) if not reason]
        self.dropped = [
            Dropped(str(file), reason) for file, reason in zip(files, reasons, strict=True) if reason
        ]
        if not good:
            first = self.dropped[0]
            if len(files) == 1:
                raise DataError(f"{first.reason}.")
            where = "" if root == Path() else f"{root}: "
            raise DataError(f"{where}none of {len(files)} videos decodes, first: {first.reason}.")
        self._files = [files[i] for i in good]
        self.keys = [_key(file, root) for file in self._files]
        self.labels = [labels[i] for i in good]
        self.label_sets = [() if label is None else (label,) for label in self.labels]
        self.sources = self.keys
        self.sequential_groups: Sequence[int] = ()
        self.shuffle_buffer = 0
        self.classes = classes
        self.official = None
        content = [
            [key, label, file.stat().st_size]
            for key, label, file in zip(self.keys, self.labels, self._files, strict=True)
        ]
        self.digest = hashlib.sha256(json.dumps([list(classes), content]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def open(self, index: int) -> Path:
        """Returns the video's path."""
        return self._files[index]


def _key(file: Path, root: Path) -> str:
    return (file.relative_to(root) if root.parts else file).as_posix()


def videos_under(folder: Path) -> list[Path]:
    """Returns all video files below a folder, sorted; names that begin with a dot are not looked at."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix[1:].lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def class_folders(folder: Path) -> list[str]:
    """Returns the names of the subfolders, sorted; those that begin with a dot are not looked at."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _reason_against(path: Path) -> str:
    """Returns why a file is left out, or an empty string: it opens, is whole, and its first frame decodes."""
    try:
        with Video(path, name=path.name) as video:
            video.facts()
    except BadVideo as bad:
        return str(bad)
    return ""
