"""Worker processes that make batches in order, based on torch's DataLoader."""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from math import prod
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Self, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from transfer3d.data.batch import ClipId
from transfer3d.data.child import Limits, MemoryLimit, death, ignore_signals, wait_round
from transfer3d.data.container import Source
from transfer3d.data.decode import OpenVideo, Video, VideoReader, empty_frames
from transfer3d.data.decoder import Decoder
from transfer3d.data.pixels import Frames
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, SetupError
from transfer3d.layout import RGB_CHANNELS

LIMITS = Limits()
CRASHES = {getattr(signal, name, 0) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")}
DEATH_S = 5.0  # maximum time for a dying worker to exit
REMEDY = "Leave it out; `transfer3d check` finds all such videos."

Item = TypeVar("Item")
Made = tuple[Item, dict[str, str]]  # a batch, and the reasons of its undecodable videos by key
_Answer = Made[Item] | DataError | SetupError


class Maker(ABC, Generic[Item]):
    """Makes a batch from its plan.

    Attributes:
        videos: indexed by the draws.
        open_video: opens them; set by `run_workers`.
    """

    videos: VideoSet
    open_video: OpenVideo = Video
    _places: torch.Tensor | None = None

    @abstractmethod
    def make(self, draws: list[ClipId]) -> Made[Item]:
        """Makes one batch."""

    def now_at(self, index: int) -> None:
        """Records the current video in shared memory, so that an error can name it if its worker dies."""
        worker = get_worker_info()
        if worker is not None and self._places is not None:
            self._places[worker.id] = index

    def watch(self, workers: int) -> torch.Tensor:
        """Returns the shared memory: the index of the current video, by worker."""
        self._places = torch.full((workers,), -1).share_memory_()
        return self._places


class _Batches(Dataset[_Answer[Item]]):
    """Lets DataLoader fetch whole batches; errors are returned, since raising would lose their type."""

    def __init__(self, maker: Maker[Item]) -> None:
        self._maker = maker

    def __getitems__(self, draws: list[ClipId]) -> _Answer[Item]:
        try:
            return self._maker.make(draws)
        except DataError as error:
            return DataError(str(error))
        except SetupError as error:
            return error


def run_workers(
    maker: Maker[Item], plan: Iterable[list[ClipId]], workers: int, *, ahead: bool = False
) -> Iterator[Made[Item]]:
    """Yields the batch that `maker` makes from each list of draws, in order.

    Without workers the maker runs in this process, and videos are decoded in a child.

    Args:
        maker: creates batches.
        plan: the draws of each batch.
        workers: number of processes that make batches.
        ahead: without workers, whether a thread prefetches the next batch. The maker must not use global
            random state then.

    Raises:
        DataError: raised by the maker; or a video crashed or hung a worker.
        SetupError: a worker died for another reason, with its current video; or a server does not answer.
    """
    answers = _by_workers(maker, plan, workers) if workers else _in_process(maker, plan, ahead)
    with closing(answers):
        for answer in answers:
            if isinstance(answer, DataError | SetupError):
                raise answer
            yield answer


def _in_process(maker: Maker[Item], plan: Iterable[list[ClipId]], ahead: bool) -> Generator[_Answer[Item]]:
    decoder, make = Decoder(), _Batches(maker).__getitems__
    maker.open_video = decoder.open
    waiting: deque[Future[_Answer[Item]]] = deque()
    try:
        with ThreadPoolExecutor(1) as thread:
            try:
                for draws in plan:
                    if ahead:
                        waiting.append(thread.submit(make, draws))
                    else:
                        yield make(draws)
                    if len(waiting) > 1:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                decoder.cancel()
    finally:
        decoder.close()


def _by_workers(maker: Maker[Item], plan: Iterable[list[ClipId]], workers: int) -> Generator[_Answer[Item]]:
    maker.open_video = _open_in_worker
    notes = maker.watch(workers)
    # Typed as Any, since the loader's processes have no public name.
    answers: Any = iter(
        DataLoader(
            _Batches(maker),
            batch_sampler=plan,
            num_workers=workers,
            collate_fn=_identity,
            worker_init_fn=_start_worker,
            # The loader draws a seed for its workers, which must not change the global generator of training.
            generator=torch.Generator(),
        )
    )
    with _default_sigchld_handler():
        try:
            yield from answers
        except (RuntimeError, EOFError, OSError) as error:
            # A worker that dies while its batch is fetched breaks a connection before its exit is noticed.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            dead = _end_workers(answers)
            if not dead:
                raise
            at = {
                place: str(maker.videos.keys[index])
                for place, index in enumerate(notes.tolist())
                if index >= 0
            }
            raise _death_error(*dead, at) from error
        finally:
            # Ends the workers now: otherwise an exception's traceback would keep them alive.
            del answers


@contextmanager
def _default_sigchld_handler() -> Iterator[None]:
    """Keeps torch from raising at a worker's death wherever the main thread is, as within a training step.

    The loader notices it when it waits for the next batch.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        # None: a handler that was not installed from Python cannot be restored from it.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _end_workers(answers: Any) -> tuple[int, int] | None:
    """Ends a loader's processes, and returns the index and the exit code of the one that had died."""
    processes: list[BaseProcess] = answers._workers
    ended = wait([process.sentinel for process in processes], DEATH_S)
    for process in processes:
        if process.sentinel in ended:
            process.join(DEATH_S)
    dead = next(((i, p.exitcode) for i, p in enumerate(processes) if p.exitcode), None)
    answers._shutdown_workers()
    return dead


def _death_error(place: int, code: int, at: dict[int, str]) -> DataError | SetupError:
    """Returns the error for a worker that died.

    Args:
        place: index of the worker.
        code: its exit code.
        at: the current video of each worker, by index.
    """
    key = at.get(place, ", ".join(at.values()))
    if code == -getattr(signal, "SIGALRM", 0):
        return DataError(f"{key}: the decoder made no progress for {LIMITS.seconds:g} s. {REMEDY}")
    if -code in CRASHES:
        return DataError(f"{key}: the decoder crashed ({death(code)}). {REMEDY}")
    return SetupError(f"a data worker died ({death(code)}) at {key}. Look at memory and at this video.")


@contextmanager
def _open_in_worker(source: Source, *, name: str = "", channels: int = RGB_CHANNELS) -> Iterator[VideoReader]:
    """Opens a video within limits: excessive memory raises BadVideo, and a hang ends this process."""
    with _Watchdog(LIMITS.seconds) as watchdog:
        memory = MemoryLimit(LIMITS.memory_gib)

        def empty(shape: tuple[int, ...]) -> Frames:
            memory.allow(prod(shape))
            return empty_frames(shape)

        try:
            progress = watchdog.restart
            with Video(source, name=name, channels=channels, progress=progress, empty=empty) as video:
                yield video
        finally:
            memory.lift()


class _Watchdog:
    """A thread that kills this process after some seconds without progress.

    Decoding releases the interpreter's lock, so that the thread runs beside it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._has_progressed, self._is_over = seconds, False, threading.Event()
        self._thread = threading.Thread(target=self._run, name="decoding limit", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def restart(self) -> None:
        """Counts from here: there was progress."""
        self._has_progressed = True

    def _run(self) -> None:
        is_over, left_s = False, self._seconds
        while not is_over:
            is_over, left_s = wait_round(self._is_over.wait, left_s)
            if self._has_progressed:
                self._has_progressed, left_s = False, self._seconds
            elif left_s <= 0 and not is_over:
                os.kill(os.getpid(), getattr(signal, "SIGALRM", signal.SIGTERM))


def _identity(answer: Any) -> Any:
    return answer


def _start_worker(_: int) -> None:
    ignore_signals()  # the parent finishes its step and ends its workers; they also notice when it exits
    if hasattr(signal, "SIGALRM"):  # a handler inherited from the parent would not end a hang
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    torch.set_num_threads(1)
