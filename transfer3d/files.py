"""Atomic file writes (temporary name, flush, rename), file locks, and bounded reading of untrusted files."""

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from transfer3d.errors import SetupError, UsageError, did_you_mean

log = logging.getLogger(__name__)

PARTIAL = ".transfer3d-partial-"
"""Prefix of the names of unfinished files."""
PARTIAL_NAME = re.compile(re.escape(PARTIAL) + "[0-9a-f]{32}-")
LOCK = ".transfer3d-lock"
"""The lock file of a folder."""
POLL_S = 0.2
"""How often a waiting process tries to take a lock."""
DEVICES = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Folders of devices and open files, which are not regular files even if one links to one."""
MAX_JSON_BYTES = 1 << 26
"""Maximum size of metadata, a manifest or a report."""
MAX_DEPTH = 32
"""Maximum nesting of untrusted JSON and TOML."""


def refuse_unwritable(final: Path) -> None:
    """Raises SetupError if `final` cannot be written, so that a long run fails at its start.

    It creates an unnamed temporary file in the folder, since permission bits alone do not decide.
    """
    _refuse_special(final)
    place = next(parent for parent in final.absolute().parents if parent.exists())
    try:
        if place.is_dir():
            tempfile.TemporaryFile(dir=place).close()
            return
        reason = f"{place} is a file"
    except OSError as error:
        reason = f"no file can be created in {place} ({error.strerror})"
    raise SetupError(f"{final} cannot be written: {reason}. Choose another place.")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yields a temporary path beside `final`; on success it is flushed to disk and renamed to `final`.

    On an error the temporary file is removed and `final` is as it was before.

    Raises:
        SetupError: the place cannot be written, or the disk is full.
    """
    _refuse_special(final)
    partial = partial_path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        # Some writers create files that only their owner can read.
        partial.chmod(0o666 & ~_umask())
        partial.replace(final)
        fsync_folder(final.parent)
    except (OSError, SafetensorError) as error:  # safetensors raises the latter on a full disk
        _forget(partial)
        reason = getattr(error, "strerror", None) or error
        raise SetupError(f"{final} cannot be written: {reason}. Choose another place.") from error
    except BaseException:
        _forget(partial)
        raise


def _refuse_special(final: Path) -> None:
    """Raises SetupError where a device, a pipe or a link to one would be replaced by a file."""
    try:
        mode = final.stat().st_mode
    except (OSError, ValueError):
        return  # nothing is there, or a link to nothing
    is_plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    if not is_plain or final.absolute().parent in DEVICES:
        raise SetupError(f"{final} cannot be written: it is a device or a pipe. Choose another place.")


def partial_path(final: Path) -> Path:
    """Returns a unique temporary path beside `final`; `remove_partials` recognises its name."""
    # The suffix is kept: writers such as PyAV and matplotlib choose their format by it.
    return final.with_name(f"{PARTIAL}{uuid.uuid4().hex}-{final.name}")


def is_temporary(name: str) -> bool:
    """Whether a name is that of a lock or of an unfinished file, which is nothing of the user's."""
    return name == LOCK or PARTIAL_NAME.match(name) is not None


def remove_partials(folder: Path) -> None:
    """Removes partially written files that killed processes left in an output folder; links are skipped."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if PARTIAL_NAME.match(path.name) and not path.is_symlink():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raises UsageError if one of these subfolders of an output folder is a link.

    The lock of the output folder does not cover the target of the link.
    """
    for path in (folder / name for name in names):
        if path.is_symlink():
            raise UsageError(
                f"{path} is a link, and files that it points to could be replaced or removed. Make it a "
                f"folder, or link {folder} itself."
            )


def _forget(partial: Path) -> None:
    with suppress(OSError):
        partial.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def fsync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    with suppress(PermissionError):  # Windows does not open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Lock:
    """Keeps a file locked until `close`, or until the process ends, even by kill -9.

    Args:
        path: the lock file. It names the holder and remains only if that process was killed. A link or a pipe
            at this path is not touched.
        name: name of the locked folder or file, for messages.
        wait: wait while another process holds the lock.
        remedy: what to do, for messages.

    Raises:
        SetupError: another process holds the lock and `wait` is off, or the file cannot be written.
    """

    def __init__(
        self, path: Path, name: str, *, wait: bool = False, remedy: str = "choose another with -o"
    ) -> None:
        self._path = path
        # A forked child, such as a decoding worker, drops the lock: filelock closes its copy of the file.
        self._lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise FileExistsError(errno.EEXIST, f"{path.name} in it was not written by transfer3d")
            self._acquire(name, wait=wait)
        except Timeout:
            raise SetupError(f"{name} is in use by {_holder(path)}. Wait for it, or {remedy}.") from None
        except OSError as error:
            remedy = remedy[0].upper() + remedy[1:]
            raise SetupError(f"{name} cannot be written: {error.strerror}. {remedy}.") from None
        with suppress(PermissionError):  # Windows: nobody writes to a locked file
            path.write_text(f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")

    def _acquire(self, name: str, *, wait: bool) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            if not wait:
                raise
            log.info("%s is in use by %s: waiting for it", name, _holder(self._path))
            self._lock.acquire(blocking=True, poll_interval=POLL_S)

    def close(self) -> None:
        """Removes the file and releases the lock; a second call does nothing."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._path.unlink()
            self._lock.release()


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError):  # Windows: nobody reads a locked file
        return read_regular(path, 1000).decode().strip() or "another process"
    return "another process"


def write_text(final: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(final) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256_file(path: Path, most: int | None = None) -> str:
    """Returns the hex digest of a file's bytes.

    Raises:
        ValueError: see `read_regular`.
        FileNotFoundError: the file does not exist.
    """
    _refuse_irregular(path, most)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_regular(path: Path, most: int) -> bytes:
    """Returns the bytes of a regular file.

    Raises:
        ValueError: it is a device, a pipe or a folder, or has more than `most` bytes.
        FileNotFoundError: it does not exist.
    """
    _refuse_irregular(path, most)
    return path.read_bytes()


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """Returns the value of a JSON file that may have been changed: see `parse_json`, untrusted.

    Raises:
        ValueError: it is not such JSON, or not a regular file of at most `most` bytes.
        FileNotFoundError: the file does not exist.
    """
    return parse_json(read_regular(path, most), untrusted=True)


def _refuse_irregular(path: Path, most: int | None) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if most is not None and status.st_size > most:
        raise ValueError(f"{status.st_size} bytes, more than {most}")


def parse_json(content: str | bytes, *, untrusted: bool = False) -> Any:
    """Parses JSON.

    Args:
        content: content of a file.
        untrusted: also refuse duplicate keys, numbers that are not finite, text that is not valid Unicode
            and deep nesting.

    Raises:
        ValueError: the JSON is malformed, refused, or nests too deep.
    """
    try:
        value = json.loads(content, object_pairs_hook=_table if untrusted else None)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if untrusted:
        refuse_extremes(value)
    return value


def refuse_extremes(value: Any) -> None:
    """Raises ValueError for parsed JSON or TOML that nests too deep or holds an unsupported value.

    Unsupported are numbers that are not finite, text that UTF-8 cannot encode or no path can have, and TOML's
    dates.
    """
    stack = [(1, value)]
    while stack:
        depth, node = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError("it nests too deep")
        if isinstance(node, float) and not math.isfinite(node):
            raise ValueError(f"the number {node}")
        if isinstance(node, str) and not is_unicode(node):
            raise ValueError(f"text that is not Unicode, {node[:100]!r}")
        if isinstance(node, str) and "\0" in node:
            raise ValueError(f"text with a NUL, {node[:100]!r}")
        if isinstance(node, date | time_of_day):
            raise ValueError(f"the date or time {node}")
        if isinstance(node, Mapping):
            stack += [(depth + 1, inner) for item in node.items() for inner in item]
        elif isinstance(node, list | tuple):
            stack += [(depth + 1, inner) for inner in node]


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogate, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name appears twice in a table")
    return table


def home_folder() -> Path:
    """Returns this user's home folder.

    Raises:
        SetupError: it is not known, as in a container whose user has no name.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise SetupError("the home folder is not known. Set HOME, or name the videos with --data.") from None


def why_no_file(path: Path) -> str:
    """Returns what a path is that is not a regular file, for messages."""
    if path.is_dir():
        return "is a folder"
    return "is a device or a pipe" if path.exists() else f"does not exist{nearest_beside(path)}"


def nearest_beside(path: Path) -> str:
    """Returns ` (did you mean 'x'?)` for the most similar name in a path's folder, or an empty string."""
    folder = path.parent
    return did_you_mean(path.name, [other.name for other in folder.iterdir()] if folder.is_dir() else [])
