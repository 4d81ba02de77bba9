"""Work on files that may crash the process, hang it or fill its memory: done in children, each within limits.

A child works on some files and is then replaced, so that what its libraries keep does not add up. One that
dies or takes too long costs only its file. A file that fails in a child that has worked before is tried once
more in a fresh one, so that no file is refused for what others have left.
"""

from __future__ import annotations

import errno
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

from transfer3d.errors import Transfer3dError

Job = TypeVar("Job")
Result = TypeVar("Result")

GIB = 2**30
AHEAD = 4  # answers kept for each child until their turn comes
JOBS_OF_A_CHILD = 32


@dataclass(frozen=True)
class Limits:
    """What one file may cost.

    Attributes:
        seconds: by the clock.
        memory_gib: address space of a child beyond what it maps at its start, GiB.
    """

    seconds: float = 30.0
    memory_gib: float = 4.0


@dataclass(frozen=True)
class Fault:
    """The reason why there is no result."""

    reason: str


@dataclass
class _Child:
    """One process, the number of the job that it is at, and how many it has done."""

    process: BaseProcess
    pipe: Connection
    job: int | None = None
    deadline: float = 0.0
    done: int = 0

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Children(Generic[Job, Result]):
    """The children of one `isolated_map`."""

    def __init__(self, work: Callable[[Job], Result], workers: int, limits: Limits) -> None:
        if "forkserver" in multiprocessing.get_all_start_methods():
            self._context = multiprocessing.get_context("forkserver")
            # Imported once, by the server that the children are forked from.
            self._context.set_forkserver_preload(["transfer3d.data.prepare"])
        else:
            self._context = multiprocessing.get_context("spawn")
        self._work, self._limits, self._workers = work, limits, workers
        self._running: list[_Child] = []
        self._jobs: dict[int, Job] = {}

    def idle(self) -> list[_Child]:
        """Returns the children without a job, as many as there are to be."""
        self._running += [self._start() for _ in range(self._workers - len(self._running))]
        return [child for child in self._running if child.job is None]

    def give(self, child: _Child, number: int, job: Job) -> None:
        """Hands out a job."""
        child.job, child.deadline = number, time.monotonic() + self._limits.seconds
        self._jobs[number] = job
        with suppress(BrokenPipeError, ConnectionResetError):  # `take` sees that it died
            child.pipe.send(job)

    def take(self) -> Iterator[tuple[int, Result | Fault]]:
        """Waits for at least one answer, and yields what there is, by job."""
        busy = [child for child in self._running if child.job is not None]
        patience = min(child.deadline for child in busy) - time.monotonic()
        ready = wait([child.pipe for child in busy], max(patience, 0))
        for child in busy:
            assert child.job is not None
            number, answer = child.job, None
            if child.pipe in ready:
                try:
                    answer, child.job = child.pipe.recv(), None
                except (EOFError, ConnectionResetError):
                    child.process.join()
                    answer = Fault(f"the decoder crashed ({_death(child.process.exitcode)})")
            elif time.monotonic() >= child.deadline:
                answer = Fault(f"not decoded within {self._limits.seconds:g} s")
            if answer is None:
                continue
            in_time = time.monotonic() < child.deadline
            again = isinstance(answer, Fault) and child.done > 0 and in_time
            child.done += 1
            if again or child.job is not None or child.done >= JOBS_OF_A_CHILD:
                child.stop()
                self._running.remove(child)
            if again:
                self._running.append(fresh := self._start())
                self.give(fresh, number, self._jobs[number])
            else:
                del self._jobs[number]
                yield number, answer

    def stop(self) -> None:
        """Ends all children now."""
        for child in self._running:
            child.stop()

    def _start(self) -> _Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work, self._limits), daemon=True)
        process.start()
        theirs.close()
        with suppress(EOFError, ConnectionResetError):  # `take` sees that it died
            ours.recv()  # a file's time does not include the start of its child
        return _Child(process, ours)


def isolated_map(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int = 1, limits: Limits | None = None
) -> Iterator[Result | Fault]:
    """Yields what `work` makes of each job, in order, computed in child processes.

    Args:
        work: can be pickled; raises Transfer3dError for a bad file.
        jobs: can be pickled.
        workers: number of children.
        limits: of each job.
    """
    children = _Children(work, workers, limits or Limits())
    answers: dict[int, Result | Fault] = {}
    handed_out = 0
    try:
        for due in range(len(jobs)):
            while due not in answers:
                for child in children.idle():
                    if handed_out < min(len(jobs), due + AHEAD * workers):
                        children.give(child, handed_out, jobs[handed_out])
                        handed_out += 1
                answers.update(children.take())
            yield answers.pop(due)
    finally:
        children.stop()


def _serve(pipe: Connection, work: Callable[[Job], Result], limits: Limits) -> None:
    """Is the child: answers jobs until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children itself
    _limit_memory(limits)
    pipe.send("ready")
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = work(job)
        except Exception as error:
            reason = str(error) if isinstance(error, Transfer3dError) else repr(error)
            if _is_out_of_memory(error):  # FFmpeg also says so of a damaged size, whatever the limit
                reason += f"; the memory limit is {limits.memory_gib:g} GiB"
            answer = Fault(reason)
        pipe.send(answer)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, is a failed allocation."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit_memory(limits: Limits) -> None:
    if sys.platform != "linux":
        return  # elsewhere the system does not keep such a limit
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize() + round(limits.memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit {code}"
