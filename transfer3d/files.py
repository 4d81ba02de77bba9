"""Files that are either whole or not there: written beside, flushed, renamed."""

import fcntl
import hashlib
import os
import socket
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from transfer3d.errors import SetupError


def refuse_unwritable(final: Path) -> None:
    """Raises SetupError where a file could not be written in the end: better said before the work.

    The place is tried, with a file that has no name: permissions alone do not say it.
    """
    place = next(parent for parent in final.absolute().parents if parent.exists())
    try:
        if place.is_dir():
            tempfile.TemporaryFile(dir=place).close()
            return
        reason = f"{place} is a file"
    except OSError as error:
        reason = f"{place} takes no files ({error.strerror})"
    raise SetupError(f"{final} cannot be written: {reason}. Choose another place.")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yields a temporary path beside `final`; on success it is flushed to disk and renamed to `final`.

    On an error the temporary file is removed and `final` is as it was before.

    Raises:
        SetupError: the place cannot be written, or the disk is full.
    """
    # The suffix stays: writers such as PyAV and matplotlib choose their format by it.
    partial = final.with_name(f".partial-{uuid.uuid4().hex[:8]}-{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        # Some writers make files that only their owner can read.
        partial.chmod(0o666 & ~_umask())
        partial.replace(final)
        fsync_folder(final.parent)
    except (OSError, SafetensorError) as error:  # the latter: what safetensors makes of a full disk
        _forget(partial)
        reason = getattr(error, "strerror", None) or error
        raise SetupError(f"{final} cannot be written: {reason}. Choose another place.") from error
    except BaseException:
        _forget(partial)
        raise


def _forget(partial: Path) -> None:
    with suppress(OSError):
        partial.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def fsync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Lock:
    """Holds something for one process by a locked file; the end of the process, even by kill -9, frees it.

    Args:
        path: of the file, which only a process that is killed leaves behind.
        name: what is held, for messages.

    Raises:
        SetupError: another process holds it, or the place cannot be written.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+")
            while not self._is_taken():
                self._file.close()
                self._file = path.open("a+")
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise SetupError(
                f"{name} is in use by {holder}. Wait for it, or choose another with -o."
            ) from None
        except OSError as error:
            raise SetupError(f"{name} cannot be written: {error.strerror}. Choose another with -o.") from None
        file = weakref.ref(self._file)
        # A forked child, as a decoding worker, would hold the lock until it notices that its parent is gone.
        os.register_at_fork(after_in_child=lambda: (held := file()) and held.close())
        self._file.truncate(0)
        self._file.write(f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
        self._file.flush()

    def _is_taken(self) -> bool:
        """Locks the file; returns False where its last holder removed it meanwhile."""
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._path.exists() and os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))

    def close(self) -> None:
        """Gives it back, once."""
        if not self._file.closed:
            with suppress(OSError):
                self._path.unlink()
            self._file.close()


def write_text(final: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(final) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Returns the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
