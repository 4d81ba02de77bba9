"""Child processes that foreign bytes are decoded in, and the limits of one video."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess, current_process
from pathlib import Path
from types import ModuleType
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """What one video may cost.

    Attributes:
        seconds: by the clock.
        memory_gib: address space of a child beyond what it maps at its start, GiB.
    """

    seconds: float = 30.0
    memory_gib: float = 4.0


@dataclass(frozen=True)
class Child:
    """A process, and the pipe to it."""

    process: BaseProcess
    pipe: Connection

    def stop(self) -> None:
        """Ends it now."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def death(self) -> str:
        """Returns what it died of, after its pipe broke."""
        self.process.join()
        return death(self.process.exitcode)


def may_have_children() -> bool:
    """Whether this process may start children; one that is itself a worker (daemonic) may not."""
    return not current_process().daemon


def start_child(serve: Callable[..., None], *arguments: Any) -> Child:
    """Starts `serve(pipe, *arguments)` in a process of its own, and waits until it sends something.

    Args:
        serve: can be pickled, as its arguments. It runs until the pipe is closed.
        arguments: see there.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        # Imported once, by the server that the children are forked from.
        context.set_forkserver_preload(["transfer3d.data.prepare"])
    else:
        context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
    with _clean_start():
        process.start()
    theirs.close()
    with suppress(EOFError, ConnectionResetError):  # seen again at the next use
        ours.recv()  # a video's time does not include the start of its child
    return Child(process, ours)


def ignore_signals() -> None:
    """Leaves Ctrl-C, and the SIGTERM that SLURM sends to every process, to the parent, which ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def write_no_core() -> None:
    """A crash is expected, and leaves no file."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class MemoryLimit:
    """A limit on this process's address space, counted from what it maps now; only Linux keeps it.

    Args:
        gib: beyond that.
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
        """Sets the limit, and so many bytes beyond it."""
        self._set(self._size + more)

    def lift(self) -> None:
        """Puts the limit back that was there before."""
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
    """Returns what an exit code says."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit {code}"


@contextmanager
def _clean_start() -> Iterator[None]:
    """Keeps children from running the program's main script, which need not be written for that.

    They import from where this process does, and not from the current folder, which may hold anything.
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
