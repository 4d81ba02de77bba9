"""Processes files that may crash, hang or exhaust memory in child processes, within limits.

A child processes some files and is then replaced, so that leaks of its libraries do not accumulate. If it
dies or takes too long, only its file is affected. A file that fails in a child that processed others before
is retried once in a new child, since earlier files may be the cause.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from transfer3d.data.child import (
    Child,
    Limits,
    MemoryLimit,
    ignore_signals,
    may_have_children,
    start_child,
    wait_round,
    write_no_core,
)
from transfer3d.errors import SetupError, Transfer3dError

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 4  # answers per child that may wait for earlier ones
JOBS_OF_A_CHILD = 32


@dataclass(frozen=True)
class Fault:
    """The reason for a missing result.

    Attributes:
        reason: reason as text.
        is_late: whether the time limit was exceeded.
        is_setup: whether the machine or the network is to blame, not the file.
    """

    reason: str
    is_late: bool = False
    is_setup: bool = False


@dataclass
class _Worker:
    """A child, the index of its current job and the seconds left for it, and its number of finished jobs."""

    child: Child
    job: int | None = None
    left_s: float = 0.0
    done: int = 0


class _Children(Generic[Job, Result]):
    """The children of one `isolated_map`."""

    def __init__(self, work: Callable[[Job], Result], workers: int, limits: Limits) -> None:
        self._work, self._limits, self._workers = work, limits, workers
        self._running: list[_Worker] = []
        self._jobs: dict[int, Job] = {}

    def idle(self) -> list[_Worker]:
        """Returns the children without a job, after starting missing ones."""
        self._running += [self._start() for _ in range(self._workers - len(self._running))]
        return [worker for worker in self._running if worker.job is None]

    def give(self, worker: _Worker, number: int, job: Job) -> None:
        """Assigns a job to a child."""
        worker.job, worker.left_s = number, self._limits.seconds
        self._jobs[number] = job
        with suppress(BrokenPipeError, ConnectionResetError):  # `take` notices that it died
            worker.child.pipe.send(job)

    def take(self) -> Iterator[tuple[int, Result | Fault]]:
        """Waits for a round, and yields all available answers with their job indices."""
        busy = [worker for worker in self._running if worker.job is not None]
        pipes, least_s = [worker.child.pipe for worker in busy], min(worker.left_s for worker in busy)
        ready, left_s = wait_round(partial(wait, pipes), least_s)
        for worker in busy:
            assert worker.job is not None
            worker.left_s -= least_s - left_s
            number, answer = worker.job, None
            if worker.child.pipe in ready:
                try:
                    answer, worker.job = worker.child.pipe.recv(), None
                except (EOFError, ConnectionResetError):
                    answer = Fault(f"the decoder crashed ({worker.child.death()})")
            elif worker.left_s <= 0:
                answer = Fault(f"not decoded within {self._limits.seconds:g} s", is_late=True)
            if answer is None:
                continue
            again = (
                isinstance(answer, Fault) and not answer.is_setup and worker.done > 0 and worker.left_s > 0
            )
            worker.done += 1
            if again or worker.job is not None or worker.done >= JOBS_OF_A_CHILD:
                worker.child.stop()
                self._running.remove(worker)
            if again:
                self._running.append(fresh := self._start())
                self.give(fresh, number, self._jobs[number])
            else:
                del self._jobs[number]
                yield number, answer

    def stop(self) -> None:
        """Kills all children."""
        for worker in self._running:
            worker.child.stop()

    def _start(self) -> _Worker:
        return _Worker(start_child(_serve, self._work, self._limits))


def isolated_map(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int = 1, limits: Limits | None = None
) -> Iterator[Result | Fault]:
    """Yields the result of `work` for each job, in order, computed in child processes.

    Args:
        work: picklable; raises Transfer3dError for a bad file.
        jobs: picklable.
        workers: number of children.
        limits: for each job; not enforced in a process that cannot have children, which does the work itself.

    Raises:
        SetupError: raised by `work`: the machine or the network failed, not a file.
    """
    with closing(_answers(work, jobs, workers, limits or Limits())) as answers:
        for answer in answers:
            if isinstance(answer, Fault) and answer.is_setup:
                raise SetupError(answer.reason)
            yield answer


def _answers(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, limits: Limits
) -> Generator[Result | Fault]:
    if not may_have_children():
        yield from (_answer(work, job, limits) for job in jobs)
        return
    children = _Children(work, workers, limits)
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
    """The child's main function: processes jobs until the parent exits."""
    ignore_signals()
    write_no_core()
    MemoryLimit(limits.memory_gib)
    try:
        pipe.send("ready")
        while True:
            job = pipe.recv()
            pipe.send(_answer(work, job, limits))
    except (EOFError, ConnectionError):
        return


def _answer(work: Callable[[Job], Result], job: Job, limits: Limits) -> Result | Fault:
    try:
        return work(job)
    except Exception as error:
        reason = str(error) if isinstance(error, Transfer3dError) else repr(error)
        return Fault(reason + memory_note(error, limits), is_setup=isinstance(error, SetupError))


def memory_note(error: BaseException, limits: Limits) -> str:
    """Returns an addition to the message of a failed allocation; empty for other errors."""
    # FFmpeg also reports a failed allocation for a damaged size, whatever the limit.
    return f"; the memory limit is {limits.memory_gib:g} GiB" if _is_out_of_memory(error) else ""


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, is a failed allocation."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False
