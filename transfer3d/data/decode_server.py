"""The child process of `Decoder`: opens videos and answers requests, returning frames in shared memory."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from itertools import groupby, islice
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transfer3d.data.child import Limits, MemoryLimit, ignore_signals, write_no_core
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import OpenVideo
from transfer3d.data.isolated import memory_note
from transfer3d.data.pixels import Frames

CAN_SHARE = sys.platform != "win32"
"""Whether an open file can be passed to another process."""
PULSE_S = 0.5  # interval at which the child reports progress
CHUNK_BYTES = 4 * 2**20  # size of a stream's chunks
KEPT_BYTES = 64 * 2**20  # shared memory that is kept between answers


class Request(NamedTuple):
    """A method of the open video, or "open", followed by the file's bytes if its path is None."""

    method: str
    arguments: tuple[Any, ...]


class Answer(NamedTuple):
    """The result of a request; for frames, which are in shared memory, their shape."""

    kind: Literal["value", "frames", "bad", "memory", "bug"]
    value: Any


def new_shared_memory() -> int:
    """Creates the shared memory for frames: an open, empty file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("frames")  # does not use /dev/shm, which is small in containers
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def take_frames(file: int, shape: tuple[int, ...]) -> Frames:
    """Returns a copy of the frames in shared memory, which can then be reused."""
    frames = np.array(_mapped(file, shape))
    if frames.nbytes > KEPT_BYTES:
        os.ftruncate(file, 0)
    return frames


def _mapped(file: int, shape: tuple[int, ...]) -> Frames:
    return np.frombuffer(mmap.mmap(file, prod(shape)), np.uint8).reshape(shape)


def serve(pipe: Connection, limits: Limits, open_video: OpenVideo) -> None:
    """The child's main function: answers requests until the parent exits.

    Args:
        pipe: to the parent, which sends the shared memory first.
        limits: `seconds` are enforced by the parent, to which progress is reported.
        open_video: has the arguments of `Video`.
    """
    from multiprocessing.reduction import recv_handle

    ignore_signals()
    write_no_core()
    try:
        pipe.send("ready")
        server = _Server(pipe, recv_handle(pipe), limits, open_video)
        while True:
            request: Request = pipe.recv()
            pipe.send(server.answer(request))
    except (EOFError, ConnectionError):
        return


class _Server:
    def __init__(self, pipe: Connection, file: int, limits: Limits, open_video: OpenVideo) -> None:
        self._pipe, self._file, self._limits, self._open_video = pipe, file, limits, open_video
        self._memory = MemoryLimit(limits.memory_gib)
        self._pulse_s, self._last_s = min(PULSE_S, limits.seconds / 4), 0.0
        self._video: Any = None
        self._chunks: Iterator[list[Frames]] = iter(())
        self._streamed = 0  # number of frames

    def answer(self, request: Request) -> Answer:
        """Executes a request, and returns the result."""
        self._last_s = time.monotonic()
        try:
            value: Any = getattr(self, f"_{request.method}")(*request.arguments)
        except BadVideo as bad:
            note = memory_note(bad, self._limits)
            return Answer("memory" if note else "bad", f"{bad}{note}")
        except MemoryError as error:
            return Answer("memory", f"no memory{memory_note(error, self._limits)}")
        except Exception:
            return Answer("bug", traceback.format_exc())
        finally:
            self._memory.allow(0)
        if value is not None and request.method in ("read", "chunk"):
            return Answer("frames", value.shape)
        return Answer("value", value)

    def _open(self, path: Path | None, name: str, channels: int) -> None:
        source = self._pipe.recv_bytes() if path is None else path
        if self._video is not None:
            self._chunks = iter(())
            self._video.__exit__(None, None, None)
            self._video = None
        self._video = self._open_video(
            source, name=name, channels=channels, progress=self._report, empty=self._empty
        )

    def _size(self) -> tuple[int, float]:
        return self._video.frames, self._video.fps

    def _read(self, indices: NDArray[np.int64], short_side: int | None) -> Frames:
        return self._video.read(indices, short_side=short_side)

    def _seconds(self) -> NDArray[np.float64]:
        return self._video.seconds()

    def _chunk(self, first: int, short_side: int | None) -> Frames | None:
        if first == 0 or first != self._streamed:  # a new stream, or one started in another child
            stream = self._video.stream(short_side=short_side)
            self._chunks, self._streamed = _chunks(islice(stream, first, None)), first
        frames = next(self._chunks, None)
        if frames is None:
            return None
        self._streamed += len(frames)
        return np.stack(frames, out=self._empty((len(frames), *frames[0].shape)))

    def _empty(self, shape: tuple[int, ...]) -> Frames:
        """Returns an array in shared memory, which does not count towards the video's memory limit."""
        size = prod(shape)
        self._memory.allow(size)
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        return _mapped(self._file, shape)

    def _report(self) -> None:
        if (now := time.monotonic()) > self._last_s + self._pulse_s:
            self._last_s = now
            self._pipe.send(None)


def _chunks(stream: Iterator[Frames]) -> Iterator[list[Frames]]:
    """Yields frames of one size in groups of about `CHUNK_BYTES`."""
    for shape, alike in groupby(stream, lambda frame: frame.shape):
        while frames := list(islice(alike, max(CHUNK_BYTES // prod(shape), 1))):
            yield frames
