"""Writes docs/reference.md from the options of every command; the Python pages come from the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from transfer3d.cli import options
from transfer3d.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
INTRODUCTION = """# Commands

Written by `python tools/reference.py` from `--help`; a test compares them. [Exit codes](files.md#exit-codes).
"""


def reference() -> str:
    """Returns the whole page."""
    listed = commands(typer.main.get_command(app), ())
    return "\n".join([INTRODUCTION, *(command_text(path, command) for path, command in listed)])


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yields every command without subcommands, with the words that call it."""
    if not hasattr(command, "commands"):
        yield " ".join(("transfer3d", *path)), command
        return
    for name, subcommand in command.commands.items():
        yield from commands(subcommand, (*path, name))


def command_text(path: str, command: Any) -> str:
    """Returns the section of a command: its help, and a table of its arguments and options."""
    context = command.make_context(path, [], resilient_parsing=True)
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    rows = [f"| {_cell(_option(name))} | {_cell(_escaped(_help(text)))} |" for name, text in records]
    table = ["| option | help |", "| --- | --- |", *rows, ""] if rows else []
    return "\n".join([f"## {path}\n", _escaped(inspect.cleandoc(command.help or "")), "", *table])


def _option(name: str) -> str:
    """Returns how an option is written, as code, with the kind of its value in capitals."""
    if not name.startswith("-"):
        return f"`{name.split(' <')[0]}`"
    plain = re.sub(r"<(int|float)( range)?>", "N", name)
    plain = re.sub(r"<([^>]*\|[^>]*)>", r"\1", plain)
    plain = re.sub(r"<(\w+)>", lambda kind: "TEXT" if kind[1] == "str" else kind[1].upper(), plain)
    return f"`{plain}`"


def _help(text: str) -> str:
    return text.replace(f"0<=x<={options.LARGEST_SEED}", "x>=0")


def _escaped(text: str) -> str:
    """Returns text whose brackets are neither tags nor links; code is left as it is."""
    parts = text.split("`")
    return "`".join(
        part if number % 2 else re.sub(r"[<[]", r"\\\g<0>", part) for number, part in enumerate(parts)
    )


def _cell(text: str) -> str:
    """Returns text for a cell of a table."""
    # In code GitHub wants a bar with a backslash, which mkdocs would show; both take the entity.
    text = re.sub(r"`([^`]*\|[^`]*)`", lambda code: f"<code>{code[1].replace('|', '&#124;')}</code>", text)
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
