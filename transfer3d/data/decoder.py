"""Decodes videos in a child process, so that a crash, a hang or excessive memory only affects that video.

One child opens many videos, one after another. Frames are returned in shared memory. If a child that opened
other videos before fails, the video is retried once in a new child, since earlier ones may be the cause.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer3d.data.child import Child, Limits, may_have_children, start_child, wait_round
from transfer3d.data.container import BadVideo, Source
from transfer3d.data.decode import OpenVideo, Video, VideoReader
from transfer3d.data.decode_server import CAN_SHARE, Answer, Request, new_shared_memory, serve, take_frames
from transfer3d.data.pixels import Frames
from transfer3d.layout import RGB_CHANNELS


class _ChildLost(Exception):  # noqa: N818 - never leaves this file
    """The child died, or has no memory left; the message says why."""


class Decoder:
    """Opens videos in a child; in this process if it cannot have children or share memory.

    Args:
        limits: for each video; `seconds` count from its last packet or frame.
        open_video: picklable function with which the child opens videos.

    Example:
        >>> decoder = Decoder()
        >>> with decoder.open(Path("a.mp4")) as video:
        ...     frames = video.read(np.arange(video.frames))
    """

    def __init__(self, limits: Limits | None = None, open_video: OpenVideo = Video) -> None:
        self._limits, self._open_video = limits or Limits(), open_video
        self._lock = RLock()
        self._child: Child | None = None
        self._memory = -1  # the open file of the shared memory
        self._end: Finalize | None = None
        self._process = os.getpid()
        self._cancelled = False
        self._videos = 0  # number of videos that this child has opened
        self._current: object = None  # the key of the video that is open in the child

    def __reduce__(self) -> tuple[type[Decoder], tuple[Limits, OpenVideo]]:
        return Decoder, (self._limits, self._open_video)

    @contextmanager
    def open(self, source: Source, *, name: str = "", channels: int = RGB_CHANNELS) -> Iterator[VideoReader]:
        """Opens a video, as `Video` does.

        Raises:
            BadVideo: any fault of the file, including a crash, a hang and a failed allocation. The reader's
                methods raise it too.
        """
        name = name or ("video" if isinstance(source, bytes) else str(source))
        if CAN_SHARE and may_have_children():
            yield _ChildVideo(self, source, name, channels)
        else:
            with self._open_video(source, name=name, channels=channels) as video:
                yield video

    def close(self) -> None:
        """Ends the child; the next video starts another."""
        if self._end is not None:
            self._end()
        self._child = self._end = self._current = None
        self._videos = 0

    def cancel(self) -> None:
        """Immediately ends a request that another thread waits for, which raises BadVideo."""
        self._cancelled = True
        if (child := self._child) is not None:
            child.process.kill()

    def ask(self, video: _ChildVideo, method: str, *arguments: Any) -> Any:
        """Calls a method of a video in the child, which opens the video if needed.

        Raises:
            BadVideo: raised in the child, or the child was lost.
        """
        with self._lock:
            if self._process != os.getpid():  # after a fork, the child belongs to the parent process
                self._child = self._end = self._current = None
                self._process = os.getpid()
            while True:
                try:
                    if self._current is not video.key:
                        self._current = None
                        self._videos += 1
                        path = None if isinstance(video.source, bytes) else Path(video.source).absolute()
                        content = video.source if isinstance(video.source, bytes) else None
                        request = Request("open", (path, video.name, video.channels))
                        self._exchange(video.name, request, content)
                        self._current = video.key
                    return self._exchange(video.name, Request(method, arguments))
                except _ChildLost as lost:
                    is_used = self._videos > 1
                    self.close()
                    if self._cancelled or not is_used:
                        raise BadVideo(f"{video.name}: {lost}") from None

    def _exchange(self, name: str, request: Request, content: bytes | None = None) -> Any:
        """Sends a request, with a file's bytes if it opens one, and returns the answer."""
        if self._child is None:
            self._start()
        assert self._child is not None
        pipe = self._child.pipe
        try:
            pipe.send(request)
            if content is not None:
                pipe.send_bytes(content)
            answer: Answer | None = None  # None: a progress report
            left_s = self._limits.seconds
            while answer is None:
                has_come, left_s = wait_round(pipe.poll, left_s)
                if has_come:
                    answer, left_s = pipe.recv(), self._limits.seconds
                elif left_s <= 0:
                    raise BadVideo(f"{name}: the decoder made no progress for {self._limits.seconds:g} s")
        except (EOFError, ConnectionError):
            raise _ChildLost(f"the decoder crashed ({self._child.death()})") from None
        except BaseException:  # a hang, or Ctrl-C: a late answer would be taken for the next request's
            self.close()
            raise
        if answer.kind == "frames":
            return take_frames(self._memory, answer.value)
        if answer.kind == "bad":
            raise BadVideo(answer.value)
        if answer.kind == "memory":
            raise _ChildLost(answer.value)
        if answer.kind == "bug":
            raise RuntimeError(answer.value)
        return answer.value

    def _start(self) -> None:
        from multiprocessing.reduction import send_handle

        self._child, self._memory = start_child(serve, self._limits, self._open_video), new_shared_memory()
        # Before the interpreter exits, which would wait for a child that still listens.
        self._end = Finalize(self, _stop, (self._child, self._memory), exitpriority=10)
        with suppress(ConnectionError):  # the first request notices that it died
            send_handle(self._child.pipe, self._memory, self._child.process.pid)


def _stop(child: Child, memory: int) -> None:
    child.stop()
    os.close(memory)


class _ChildVideo:
    """A video that is read by a decoder's child.

    Attributes:
        source: a path, or the file's bytes.
        name: for messages.
        channels: see `Video`.
        key: identifies the video without referring to it.
        frames: see `Video`.
        fps: see `Video`.
    """

    def __init__(self, decoder: Decoder, source: Source, name: str, channels: int) -> None:
        self._decoder, self.source, self.name, self.key = decoder, source, name, object()
        self.channels = channels
        self.frames, self.fps = decoder.ask(self, "size")

    def read(self, indices: NDArray[np.int64], *, short_side: int | None = None) -> Frames:
        """See `Video.read`."""
        return self._decoder.ask(self, "read", indices, short_side)

    def seconds(self) -> NDArray[np.float64]:
        """See `Video.seconds`."""
        return self._decoder.ask(self, "seconds")

    def stream(self, *, short_side: int | None = None) -> Iterator[Frames]:
        """See `Video.stream`."""
        first = 0
        while (chunk := self._decoder.ask(self, "chunk", first, short_side)) is not None:
            yield from chunk
            first += len(chunk)
