"""Writes docs/reference.md from the docstrings and from every command's options.

python tools/reference.py            # writes it
python tools/reference.py --check    # exit 1 where it is not what would be written
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from transfer3d.cli import options
from transfer3d.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"

PUBLIC = {
    "transfer3d": (
        "transfer3d", ("create_model", "list_models", "load", "save", "inflate", "fuse", "stream", "Trainer"),
    ),
    "What these give and take": (
        "", (
            "transfer3d.models.student.VideoStudent", "transfer3d.layout.ClipSpec",
            "transfer3d.weights.metadata.read_metadata", "transfer3d.weights.metadata.CheckpointMetadata",
            "transfer3d.nn.pixels.normalise", "transfer3d.evaluation.stream.Prediction",
            "transfer3d.inflation.Inflated",
        ),
    ),
    "transfer3d.data": ("transfer3d.data", ("open_videos", "Clips", "clip_of_file", "ShardDataset")),
    "transfer3d.objectives": (
        "transfer3d.objectives",
        ("Correspondence", "CorrespondenceConfig", "FrozenTeacher", "Objective", "LossReport"),
    ),
    "transfer3d.errors": (
        "transfer3d.errors",
        ("Transfer3dError", "UsageError", "DataError", "WeightsError", "SetupError", "NonFiniteError"),
    ),
}  # fmt: skip
"""What programs may rely on: heading -> module and names."""

WIDTH = 90
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
INTRODUCTION = """# Reference

Written by `tools/reference.py` from the docstrings and from `--help`; a test holds it against them.

In shapes B is clips in a batch, U units of a video, C channels, T frames, H and W pixels, N items, K classes
and D the embedding's size. [Commands](#commands), [Python](#python).
"""


def main() -> int:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is old")
    check = parser.parse_args().check
    text = reference()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE} is not what the code says. Write it anew: python tools/reference.py", file=sys.stderr)
    return 1


def reference() -> str:
    """Returns the whole page."""
    parts = [INTRODUCTION, "## Commands\n"]
    parts += [command_text(path, command) for path, command in commands(typer.main.get_command(app), ())]
    parts += ["## Python\n"]
    for heading, (module, names) in PUBLIC.items():
        parts += [f"### {heading}\n"]
        parts += [object_text(f"{module}.{name}" if module else name) for name in names]
    return "\n".join(parts)


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yields every command that does something, with the words that call it."""
    if not hasattr(command, "commands"):
        yield " ".join(("transfer3d", *path)), command
        return
    for name, below in command.commands.items():
        yield from commands(below, (*path, name))


def command_text(path: str, command: Any) -> str:
    """Returns a command's section: what it is for, and a table of what it takes."""
    context = command.make_context(path, [], resilient_parsing=True)
    rows = []
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            name, text = record
            text = text.replace(f"0<=x<={options.LARGEST_SEED}", "x>=0")
            rows.append(f"| `{_option(name)}` | {_cell(_escaped(text))} |")
    table = ["| | |", "| --- | --- |", *rows, ""] if rows else []
    return "\n".join([f"### {path}\n", _escaped(inspect.cleandoc(command.help or "")), "", *table])


def _option(name: str) -> str:
    """Returns how an option is written, what it takes in capitals; an argument's name says that itself."""
    if not name.startswith("-"):
        return _cell(name.split(" <")[0])
    plain = re.sub(r"<(int|float)( range)?>", "N", name)
    return _cell(re.sub(r"<(\w+)>", lambda kind: "TEXT" if kind[1] == "str" else kind[1].upper(), plain))


def object_text(name: str) -> str:
    """Returns the section of a function or a class, with the class's own public methods."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    if name == "transfer3d.inflation":  # the package is callable
        found = found.inflate
    lines = [f"#### {name}\n", *_signature(attribute, found), docstring_text(inspect.getdoc(found) or "")]
    for method, function in vars(found).items() if inspect.isclass(found) else ():
        if method.startswith("_") or not getattr(function, "__doc__", None):
            continue
        if isinstance(function, property):
            lines += [f"##### {attribute}.{method}\n", docstring_text(inspect.getdoc(function) or "")]
        elif inspect.isfunction(function):
            lines += [f"##### {attribute}.{method}\n", *_signature(method, function)]
            lines += [docstring_text(inspect.getdoc(function) or "")]
    return "\n".join(lines)


def docstring_text(text: str) -> str:
    """Returns a Google-style docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    inside = ""
    for line in text.splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            inside = line.rstrip(":")
            lines += [f"**{inside}**\n"]
        elif item := re.fullmatch(r"    (\*{0,2}\w+): (.*)", line) if inside else None:
            lines += [f"- `{item[1]}`: {item[2]}"]
        elif inside and line.strip():
            lines += [line[4:] if not line.startswith("     ") else f"  {line.strip()}"]
        else:
            lines += [line]
    return _escaped("\n".join(lines)) + "\n"


class _Bare(str):
    """An annotation, printed without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, found: Any) -> list[str]:
    """Returns a fenced block with the signature, one argument a line where it is long."""
    if getattr(found, "_is_protocol", False):
        return []
    signature = inspect.signature(found)
    arguments, starred = [], False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            arguments.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        arguments.append(str(parameter.replace(annotation=_bare(parameter.annotation))))
    returned = signature.return_annotation
    answer = "" if inspect.isclass(found) or returned is signature.empty else f" -> {_name(returned)}"
    text = f"{name}({', '.join(arguments)}){answer}"
    if len(text) > WIDTH:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        text = f"{name}(\n{lines}){answer}"
    return ["```text", text, "```\n"]


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _escaped(text: str) -> str:
    """Returns text whose angle brackets are no tags; code is as it was."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "\\<") for number, part in enumerate(parts))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.exit(main())
