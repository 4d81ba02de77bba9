"""Runs a baseline in its own process, so that the C library's memory settings do not affect it."""

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
        build: called in the child, returns the function; must be importable there by its name.
        arguments: for `build`.
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
        """Calls the function in the child and returns its result.

        Raises:
            SetupError: the child has ended.
        """
        return self._ask(RUN)

    def peak_bytes(self) -> int | None:
        """Returns the peak memory of one call in the child, see `memory.peak_bytes`."""
        return self._ask(PEAK)

    def _ask(self, request: str) -> Any:
        try:
            self._pipe.send(request)
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise SetupError(
                "the baseline's process ended: see its messages above. Is there enough memory?"
            ) from error


def in_subprocess_on_cpu(device: torch.device, build: Callable[..., Run], *arguments: Any) -> Run:
    """Builds a function; on a CPU it runs in a subprocess, on a GPU in this process."""
    return SubprocessRunner(build, *arguments) if device.type == "cpu" else build(*arguments)


def _serve(pipe: Connection, threads: int, build: Callable[..., Run], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    run = build(*arguments)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(peak_bytes(run, torch.device("cpu")) if request == PEAK else run())
