"""A contestant in a process of its own: what the C library keeps for one does nothing to the other."""

from __future__ import annotations

import multiprocessing
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from transfer3d.bench.memory import peak_bytes
from transfer3d.bench.paired import Run
from transfer3d.errors import SetupError

RUN, PEAK = "run", "peak"


class SubprocessRunner:
    """Calls a function in a child process, with as many threads as here, and waits for it.

    Args:
        build: returns the function, in the child; to be found by its name there.
        arguments: of `build`.
    """

    def __init__(self, build: Callable[..., Run], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, torch.get_num_threads(), build, arguments)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        weakref.finalize(self, process.terminate)

    def __call__(self) -> Any:
        """Returns what the function returns.

        Raises:
            SetupError: the child has ended.
        """
        return self._ask(RUN)

    def peak_bytes(self) -> int | None:
        """Returns the most memory that the function takes at once, see `memory.peak_bytes`."""
        return self._ask(PEAK)

    def _ask(self, wanted: str) -> Any:
        try:
            self._pipe.send(wanted)
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise SetupError(
                "the baseline's process ended: what it said stands above. Is there enough memory?"
            ) from error


def in_subprocess_on_cpu(device: torch.device, build: Callable[..., Run], *arguments: Any) -> Run:
    """Returns what `build` makes, in a process of its own on a CPU: a GPU's memory is not the C library's."""
    return SubprocessRunner(build, *arguments) if device.type == "cpu" else build(*arguments)


def _serve(pipe: Connection, threads: int, build: Callable[..., Run], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    run = build(*arguments)
    while True:
        try:
            wanted = pipe.recv()
        except EOFError:
            return
        pipe.send(peak_bytes(run, torch.device("cpu")) if wanted == PEAK else run())
