"""Worker processes that make batches, in order, by torch's DataLoader."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from math import prod
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from transfer3d.data.batch import ClipId
from transfer3d.data.child import Limits, MemoryLimit, death
from transfer3d.data.container import Source
from transfer3d.data.decode import OpenVideo, Video, VideoReader, empty_frames
from transfer3d.data.decoder import Decoder
from transfer3d.data.pixels import Frames
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, SetupError
from transfer3d.layout import RGB_CHANNELS

LIMITS = Limits()
CRASHES = {getattr(signal, name, 0) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")}
DEATH_S = 5.0  # that a worker needs at most to end, once it is known that it does
REMEDY = "Leave it out; `transfer3d check` finds all such videos."

Item = TypeVar("Item")
Made = tuple[Item, dict[str, str]]  # a batch, and by key why videos that it should have held did not decode
_Answer = Made[Item] | DataError | SetupError


class Maker(ABC, Generic[Item]):
    """Makes a batch from its plan.

    Attributes:
        videos: that the draws are numbers of.
        open_video: how they are opened: `run_workers` decides it.
    """

    videos: VideoSet
    open_video: OpenVideo = Video
    _places: torch.Tensor | None = None

    @abstractmethod
    def make(self, draws: list[ClipId]) -> Made[Item]:
        """Makes one batch."""

    def now_at(self, index: int) -> None:
        """Notes the current video in shared memory, so that an error can name it if its worker dies."""
        worker = get_worker_info()
        if worker is not None and self._places is not None:
            self._places[worker.id] = index

    def watch(self, workers: int) -> torch.Tensor:
        """Returns the notes: the number of the video at hand, by worker."""
        self._places = torch.full((workers,), -1).share_memory_()
        return self._places


class _Batches(Dataset[_Answer[Item]]):
    """Lets DataLoader fetch whole batches; an error travels as a value: raised it would lose its type."""

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
    """Yields what `maker` makes of each list of draws, in order.

    Without workers the maker runs in this process, and videos are decoded in a child.

    Args:
        maker: of batches.
        plan: the draws of each batch.
        workers: number of processes that make batches.
        ahead: without workers, whether the next batch is made in a thread while one is used. The maker must
            not touch global random state then.

    Raises:
        DataError: as the maker raises it, here or in a worker; or a video crashed a worker, or hung it.
        SetupError: a worker died otherwise, and its video is named; or a server does not answer.
    """
    answers = _by_workers(maker, plan, workers) if workers else _here(maker, plan, ahead)
    with closing(answers):
        for answer in answers:
            if isinstance(answer, DataError | SetupError):
                raise answer
            yield answer


def _here(maker: Maker[Item], plan: Iterable[list[ClipId]], ahead: bool) -> Generator[_Answer[Item]]:
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
    # Typed as what it is with workers: its processes have no public name.
    answers: Any = iter(
        DataLoader(
            _Batches(maker),
            batch_sampler=plan,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker,
            # The loader draws a seed for its workers; not from the global generator, which is the training's.
            generator=torch.Generator(),
        )
    )
    try:
        yield from answers
    except (RuntimeError, EOFError, OSError) as error:
        # A worker that dies while its batch is fetched breaks a connection, before it is known to be dead.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        try:
            dead = _end_workers(answers)
        except RuntimeError:  # torch's handler of SIGCHLD came in between
            dead = _end_workers(answers)
        if not dead:
            raise
        at = {
            place: str(maker.videos.keys[index]) for place, index in enumerate(notes.tolist()) if index >= 0
        }
        raise _why_it_died(*dead, at) from error
    finally:
        # Ends the workers now: an exception's traceback would hold them for as long as it is looked at.
        del answers


def _end_workers(answers: Any) -> tuple[int, int] | None:
    """Ends a loader's processes, and returns the number and the exit code of the one that died before."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_main and hasattr(signal, "SIGCHLD") else None
    try:
        processes: list[BaseProcess] = answers._workers
        ended = wait([process.sentinel for process in processes], DEATH_S)
        for process in processes:
            if process.sentinel in ended:
                process.join(DEATH_S)
        dead = next(((i, p.exitcode) for i, p in enumerate(processes) if p.exitcode), None)
        answers._shutdown_workers()
        return dead
    finally:
        if before is not None:  # torch's raises at every end of a child while a loader has a dead worker
            signal.signal(signal.SIGCHLD, before)


def _why_it_died(place: int, code: int, at: dict[int, str]) -> DataError | SetupError:
    """Returns the error for a worker that died.

    Args:
        place: its number.
        code: that it ended with.
        at: the video that each worker is at, by number.
    """
    key = at.get(place, ", ".join(at.values()))
    if code == -getattr(signal, "SIGALRM", 0):
        return DataError(f"{key}: the decoder made no progress for {LIMITS.seconds:g} s. {REMEDY}")
    if -code in CRASHES:
        return DataError(f"{key}: the decoder crashed ({death(code)}). {REMEDY}")
    return SetupError(f"a data worker died ({death(code)}) at {key}. Look at memory and at this video.")


@contextmanager
def _open_in_worker(source: Source, *, name: str = "", channels: int = RGB_CHANNELS) -> Iterator[VideoReader]:
    """Opens a video within limits: what takes too much memory is bad, and a hang ends this process."""
    memory = MemoryLimit(LIMITS.memory_gib)

    def empty(shape: tuple[int, ...]) -> Frames:
        memory.allow(prod(shape))
        return empty_frames(shape)

    try:
        _alarm(LIMITS.seconds)
        progress = partial(_alarm, LIMITS.seconds)
        with Video(source, name=name, channels=channels, progress=progress, empty=empty) as video:
            yield video
    finally:
        _alarm(0)
        memory.lift()


def _alarm(seconds: float) -> None:
    """Sets when this process is killed, whatever it is at; 0 = never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _as_it_is(answer: Any) -> Any:
    return answer


def _start_worker(_: int) -> None:
    # Ctrl-C, and the SIGTERM that SLURM sends to every process, are for the parent to handle: it finishes its
    # step, and ends its workers itself. They notice, too, when it is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):  # a handler of the parent would not end a hang
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    torch.set_num_threads(1)
