"""Child processes for decoding untrusted files, and the limits for one video."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess, current_process
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

GIB = 2**30
ROUND_S = 0.5

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Limits:
    """Limits on time and memory for one video.

    Attributes:
        seconds: wall-clock time in which this process is not suspended.
        memory_gib: address space of a child beyond that at its start, GiB.
    """

    seconds: float = 30.0
    memory_gib: float = 4.0


@dataclass(frozen=True)
class Child:
    """A process, and the pipe to it."""

    process: BaseProcess
    pipe: Connection

    def stop(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def death(self) -> str:
        """Returns the cause of its death, after its pipe broke."""
        self.process.join()
        return death(self.process.exitcode)


def wait_round(wait_for: Callable[[float], Answer], left_s: float) -> tuple[Answer, float]:
    """Waits once, for half a second at most, and returns the answer and how many seconds are left.

    A round counts at most as long as it should last. The clock also runs while processes are suspended
    (Ctrl-Z), and a limit by the clock would then blame a sound video.

    Args:
        wait_for: waits for a number of seconds, or shorter.
        left_s: seconds that may still pass.
    """
    round_s, started = max(min(left_s, ROUND_S), 0.0), time.monotonic()
    answer = wait_for(round_s)
    return answer, left_s - min(time.monotonic() - started, round_s)


def may_have_children() -> bool:
    """Whether this process may start children; one that is itself a worker (daemonic) may not."""
    return not current_process().daemon


def start_child(serve: Callable[..., None], *arguments: Any) -> Child:
    """Starts `serve(pipe, *arguments)` in a new process, and waits for its first message.

    Args:
        serve: picklable function, which runs until the pipe is closed.
        arguments: picklable arguments for it.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        # Imported once, by the fork server.
        context.set_forkserver_preload(["transfer3d.data.prepare"])
    else:
        context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
    with _clean_start():
        process.start()
    theirs.close()
    with suppress(EOFError, ConnectionResetError):  # raised again at the next use
        ours.recv()  # so that a video's time does not include the start of its child
    return Child(process, ours)


def ignore_signals() -> None:
    """Ignores Ctrl-C, and the SIGTERM that SLURM sends to every process; the parent ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def write_no_core() -> None:
    """Disables core dumps, since crashes are expected."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class MemoryLimit:
    """A limit on this process's address space, relative to its current size; only enforced on Linux.

    Args:
        gib: the limit, GiB.
    """

    def __init__(self, gib: float) -> None:
        self._size = 0
        if sys.platform == "linux":
            import resource

            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            self._size = pages * resource.getpagesize() + round(gib * GIB)
            self._before = resource.getrlimit(resource.RLIMIT_AS)
        self.allow(0)

    def allow(self, more: int) -> None:
        """Sets the limit plus `more` bytes."""
        self._set(self._size + more)

    def lift(self) -> None:
        """Restores the previous limit."""
        if self._size:
            self._set(self._before[0])

    def _set(self, size: int) -> None:
        if sys.platform == "linux":
            import resource

            hard = self._before[1]
            resource.setrlimit(
                resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard)
            )


def death(code: int | None) -> str:
    """Describes an exit code."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit {code}"


@contextmanager
def _clean_start() -> Iterator[None]:
    """Keeps children from running the program's main script, which may have no `__main__` guard.

    They use this process's import path, without the current folder, whose content is untrusted.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    changed = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in changed}
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    os.environ.update(changed)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
