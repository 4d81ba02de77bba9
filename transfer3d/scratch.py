"""Scratch folders in the system's temporary folder; those of a killed run are removed by the next one.

Each is locked by the process that made it. The lock ends with the process, even by kill -9, so a scratch
folder that can be locked has been abandoned.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transfer3d.errors import SetupError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PREFIX = "transfer3d-scratch-"
NAME = re.compile(re.escape(PREFIX) + "[0-9a-f]{32}")


class ScratchFolder:
    """A new folder that only this user can open; removed by `close`, with the object or with the process.

    Attributes:
        path: path of the folder.

    Raises:
        SetupError: no folder can be created in the temporary folder.
    """

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        try:
            self.path, handle = _make_locked(root)
        except OSError as error:
            raise SetupError(
                f"no folder can be created in {root} ({error.strerror}). Set TMPDIR to another folder."
            ) from error
        self._finalizer = weakref.finalize(self, _remove, self.path, handle, os.getpid())

    def close(self) -> None:
        """Removes the folder; a second call does nothing."""
        self._finalizer()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields the path of a new scratch folder, which is removed at the end."""
    folder = ScratchFolder()
    try:
        yield folder.path
    finally:
        folder.close()


def remove_abandoned() -> list[Path]:
    """Removes this user's scratch folders whose process is gone, and returns their paths.

    A link is not followed, and nothing that is locked or belongs to another user is touched.
    """
    removed: list[Path] = []
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).iterdir():
            if NAME.fullmatch(path.name) and _remove_unlocked(path):
                removed.append(path)
    return removed


def _make_locked(root: Path) -> tuple[Path, int | None]:
    while True:
        path = root / f"{PREFIX}{uuid.uuid4().hex}"
        path.mkdir(mode=0o700)
        if fcntl is None:
            return path, None
        try:
            handle = _lock(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another run is looking for abandoned folders at this moment
        except OSError:
            return path, None  # no locks on this file system, so no run can remove this folder either
        return path, handle


def _lock(path: Path) -> int:
    """Locks a folder of this user and returns its handle; raises OSError if that fails."""
    assert fcntl is not None
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, now = os.fstat(handle), path.lstat()
        if not stat.S_ISDIR(now.st_mode) or not os.path.samestat(ours, now):
            raise FileNotFoundError(path)  # removed before it was locked
        if ours.st_uid != os.geteuid():
            raise PermissionError(path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _remove_unlocked(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        handle = _lock(path)
    except OSError:
        return False
    try:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)
    return True


def _remove(path: Path, handle: int | None, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked worker has a copy of the object
    shutil.rmtree(path, ignore_errors=True)
    if handle is not None:
        os.close(handle)
