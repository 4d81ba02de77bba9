"""Output of commands: results to stdout, progress and errors to stderr; file names are not markup."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, ConsoleOptions
from rich.segment import Segment

from transfer3d.text import PlainConsole, one_line, visible

PIPE_WIDTH = 1000
STDERR = 2


class _Results(PlainConsole):
    """Re-raises BrokenPipeError so that the command exits quietly."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error."""
        raise BrokenPipeError


class _Folding(Console):
    """Folds where tables would write "…": typer has no setting for it."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Called by rich for each part of a page."""
        if options is not None and options.overflow == "ellipsis":
            options = options.update(overflow="fold")
        return super().render(renderable, options)


def out() -> Console:
    """Returns the console for results."""
    # Tables are not truncated when written to a file or a pipe.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return _Results(soft_wrap=True, width=width)


def progress_console() -> Console:
    """Returns the console of progress."""
    return PlainConsole(stderr=True)


def fold_help() -> None:
    """Makes typer's help pages fold a word that is longer than its column, instead of cutting it."""
    from typer import rich_utils

    rich_utils.Console = _Folding


def print_json(result: Any) -> None:
    """Prints a result as indented JSON."""
    typer.echo(json.dumps(result, indent=2).replace("\x7f", "\\u007f"))


def open_streams() -> None:
    """Opens closed standard streams, and escapes text that the terminal's encoding cannot represent.

    A file that is opened while a standard stream is closed would get its descriptor.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(handle)
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
        elif name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _PlainLines(logging.Handler):
    """Prints the library's log, one plain line per record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        typer.echo(visible(one_line(f"transfer3d: {level}{record.getMessage()}")), err=True)


def print_log() -> None:
    """Prints the library's log to stderr, from level INFO."""
    log = logging.getLogger("transfer3d")
    if not any(isinstance(handler, _PlainLines) for handler in log.handlers):
        log.addHandler(_PlainLines())
    log.setLevel(logging.INFO)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Prints each warning in one line, and hides the deprecation warnings of libraries.

    With -W or PYTHONWARNINGS, Python's own behaviour applies.
    """
    if sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.showwarning = lambda message, *_: typer.echo(
            visible(f"transfer3d: warning: {message}"), err=True
        )
        yield
