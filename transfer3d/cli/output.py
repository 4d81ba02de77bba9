"""How commands print: facts to stdout, progress and errors to stderr; names of files are no markup."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

PIPE_WIDTH = 1000


class _Facts(Console):
    """Leaves a closed pipe to the command line, which takes it for the reader's good right."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error."""
        raise BrokenPipeError


def out() -> Console:
    """Returns the console of facts."""
    # A table that goes to a file or a pipe is never cut.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return _Facts(highlight=False, markup=False, soft_wrap=True, width=width)


def progress_console() -> Console:
    """Returns the console of progress."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json(facts: Any) -> None:
    """Prints facts as indented JSON."""
    typer.echo(json.dumps(facts, indent=2))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Says each warning in one line, and leaves out what libraries tell programmers about later versions.

    Whoever asks Python for warnings, by -W or PYTHONWARNINGS, gets them as they are.
    """
    if sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.showwarning = lambda message, *_: typer.echo(f"transfer3d: warning: {message}", err=True)
        yield
