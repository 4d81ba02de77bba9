"""Shards on an HTTP server: reads single videos by byte ranges, or whole shards without range support."""

from __future__ import annotations

import http.client
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transfer3d.data.connection import new_opener
from transfer3d.data.shards import MAX_INDEX_BYTES, Store, read_range
from transfer3d.errors import DataError, SetupError
from transfer3d.files import atomic_path
from transfer3d.scratch import ScratchFolder, remove_abandoned, scratch_folder

Part = tuple[int, int]  # offset and size, bytes

CHUNK = 1 << 20
FAULTS = (OSError, http.client.HTTPException)
PASSING = (408, 425, 429, 500, 502, 503, 504)
KEPT = 16  # shards of a server without ranges that are cached at a time
BUFFER = 8  # shards within which videos are shuffled
MAX_SHARD_BYTES = 1 << 36  # copied to the disk
MAX_DIGITS = 18  # of a size
PLAIN = "!#$%&'()*+,/:;=?@[]~"  # characters of an address that are not escaped

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """Timeouts and retries for a server.

    Attributes:
        stall_s: maximum seconds without a byte.
        slowest: minimum bytes per second; a slower answer counts as stalled.
        tries: per request.
        pause_s: before the second try; doubled before each further one.
    """

    stall_s: float = 20.0
    slowest: float = 20_000.0
    tries: int = 5
    pause_s: float = 0.5


class _TransientFault(Exception):  # noqa: N818 - it never leaves this file
    """A transient fault, worth a retry."""


class HttpStore(Store):
    """The shards of one address.

    Args:
        address: address of the folder with `index.json`; http or https.
        patience: see `Patience`.

    Raises:
        SetupError: the server does not answer.
        DataError: there is no such file.
    """

    def __init__(self, address: str, patience: Patience | None = None) -> None:
        self._address = urllib.parse.quote(address.rstrip("/"), safe=PLAIN) + "/"
        self._patience, self._moved = patience or Patience(), set[str]()
        self._folder: Path | None = None  # cache of whole shards
        self._owner: ScratchFolder | None = None
        self.shuffle_buffer = 0

    def __str__(self) -> str:
        return self._address

    def __getstate__(self) -> dict[str, Any]:
        """Excludes the owner of the cache folder, so that workers do not remove it."""
        return {**vars(self), "_owner": None}

    def use(self, files: list[str]) -> None:
        """Requests one byte of a shard: a server that sends more does not support ranges."""
        if files and self._ask(files[0], (0, 1)) is None:
            remove_abandoned()
            self._owner = ScratchFolder()
            self._folder, self.shuffle_buffer = self._owner.path, BUFFER

    def whole(self, file: str) -> bytes:
        """Returns a small file."""
        content = self._ask(file)
        assert content is not None
        return content

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Returns some bytes of a shard."""
        if self._folder is not None:
            return self._read_kept(self._folder, file, offset, size)
        content = self._ask(file, (offset, size))
        if content is None:
            raise SetupError(f"{self._address}{file}: the server no longer supports byte ranges.")
        return content

    def check(self, file: str, size: int) -> int:
        """Returns `size` without a request, since every read is checked anyway."""
        return size

    @contextmanager
    def local(self, file: str) -> Iterator[Path]:
        """Yields the path of a temporary copy of a shard."""
        with scratch_folder() as folder:
            path = folder / "shard.tar"
            self._ask(file, path=path)
            yield path

    def _read_kept(self, folder: Path, file: str, offset: int, size: int) -> bytes:
        """Reads from the local copy of a shard, which the workers of this process share."""
        while True:
            try:
                return read_range(folder / file, offset, size)
            except FileNotFoundError:
                self._ask(file, path=folder / file)
                by_age = sorted(folder.glob("[!.]*"), key=_written_at)
                for oldest in by_age[:-KEPT]:
                    oldest.unlink(missing_ok=True)

    def _ask(self, file: str, part: Part | None = None, path: Path | None = None) -> bytes | None:
        """Requests a file or a part, with retries; None if a part was requested and the whole is offered."""
        address = self._address + urllib.parse.quote(file)
        reason = ""
        for number in range(self._patience.tries):
            if number:
                time.sleep(self._patience.pause_s * 2 ** (number - 1))
            try:
                return self._once(address, part, path)
            except _TransientFault as fault:
                reason = str(fault)
        tries = self._patience.tries
        raise SetupError(f"{address}: {reason}, {tries} times. Look at network and server; run again.")

    def _once(self, address: str, part: Part | None, path: Path | None) -> bytes | None:
        headers = {} if part is None else {"Range": f"bytes={part[0]}-{part[0] + part[1] - 1}"}
        request = urllib.request.Request(address, headers=headers | {"Accept-Encoding": "identity"})
        try:
            # Not a method: the opener is a reference cycle, which would keep the store and its folder alive.
            opener = new_opener(partial(_say_moved, self._moved))
            with opener.open(request, timeout=self._patience.stall_s) as answer:
                if part is not None and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                    return None
                expected = _promised(answer)
                if part is not None and expected not in (None, part[1]):
                    raise _TransientFault(f"{expected} bytes instead of {part[1]}")
                expected = part[1] if part is not None else expected
                most = MAX_SHARD_BYTES if path else MAX_INDEX_BYTES
                if part is None and (expected or 0) > most:
                    raise DataError(f"{address}: {expected} bytes, more than {most}. Name another file.")
                chunks = self._chunks(answer, most if expected is None else expected)
                return self._received(chunks, expected, path)
        except urllib.error.HTTPError as error:
            if error.code in PASSING:
                raise _TransientFault(f"answer {error.code}") from None
            reason = str(error.reason).partition("\n")[0]
            raise DataError(f"{address}: the server answers {error.code} ({reason}).") from None
        except FAULTS as error:
            raise _TransientFault(_reason(error)) from None
        except ValueError as error:  # raised by urllib for an invalid redirect
            raise DataError(f"{address}: the server answers with a wrong address ({error}).") from None

    def _received(self, chunks: Iterator[bytes], expected: int | None, path: Path | None) -> bytes:
        """Returns the bytes, or writes them to `path`; raises if there are fewer than expected."""
        if path is None:
            content = b"".join(chunks)
            _refuse_short(len(content), expected)
            return content
        with atomic_path(path) as partial, partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            _refuse_short(file.tell(), expected)
        return b""

    def _chunks(self, answer: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
        """Yields the body in chunks; raises if it is too long or too slow, whatever was declared."""
        started, size = time.monotonic(), 0
        while True:
            try:
                chunk = answer.read1(CHUNK)
            # Caught here, since the caller would take it for an error of the file being written.
            except FAULTS as error:
                raise _TransientFault(_reason(error)) from None
            if not chunk:
                return
            size += len(chunk)
            if size > most:
                raise _TransientFault(f"more than {most} bytes")
            yield chunk
            if time.monotonic() > started + self._patience.stall_s + size / self._patience.slowest:
                raise _TransientFault("too slow an answer")


def _say_moved(known: set[str], server: str, other: str) -> None:
    """Reports, once, that a server redirects to another one."""
    if other not in known:
        known.add(other)
        log.warning("%s sends to another server, %s", server, other)


def _written_at(path: Path) -> float:
    """Returns a file's modification time; 0 if another worker has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or str(error) or type(error).__name__)


def _refuse_short(size: int, expected: int | None) -> None:
    if expected is not None and size != expected:
        raise _TransientFault(f"{size} of {expected} bytes")


def _promised(answer: http.client.HTTPResponse) -> int | None:
    """Returns the body's size declared by the server, which may be wrong."""
    promised = answer.headers.get("Content-Length")
    if promised is not None and not (promised.isdecimal() and len(promised) <= MAX_DIGITS):
        raise _TransientFault(f"a wrong Content-Length ('{promised[:20]}')")
    return None if promised is None else int(promised)
