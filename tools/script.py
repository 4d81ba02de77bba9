"""How a tool runs as a script: an error that its user can mend is one sentence with its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from transfer3d import Transfer3dError


def run_script(main: Callable[..., Any]) -> None:
    """Runs a function with the arguments of the command line, and ends the process."""
    try:
        typer.run(main)
    except Transfer3dError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
