"""Writes docs/reference.md from the options of every command and the docstrings of every public name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from transfer3d.cli import options
from transfer3d.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
MODULES = ("transfer3d", "transfer3d.data")
WIDTH = 90
SECTIONS = ("Args", "Attributes", "Example", "Returns", "Yields", "Raises")
INTRODUCTION = """# Reference

Written by `python tools/reference.py` from `--help` and from the docstrings; a test compares them.

In shapes B is clips in a batch, U units of a video, C channels, T frames, H and W pixels, N items, K classes
and D the size of the embedding. [Commands](#commands), [Python](#python).
"""


def reference() -> str:
    """Returns the whole page."""
    parts = [INTRODUCTION, "## Commands\n"]
    parts += [command_text(path, command) for path, command in commands(typer.main.get_command(app), ())]
    parts += ["## Python\n"]
    shown: set[int] = set()
    for module in MODULES:
        public = importlib.import_module(module)
        parts += [f"### {module}\n"]
        for name in public.__all__:
            member = getattr(public, name)
            if id(member) in shown:
                continue  # transfer3d.data repeats open_videos
            shown.add(id(member))
            parts += [object_text(f"{module}.{name}", member)]
    return "\n".join(parts)


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
    rows = [f"| `{_option(name)}` | {_cell(_escaped(_help(text)))} |" for name, text in records]
    table = ["| | |", "| --- | --- |", *rows, ""] if rows else []
    return "\n".join([f"### {path}\n", _escaped(inspect.cleandoc(command.help or "")), "", *table])


def object_text(name: str, member: Any) -> str:
    """Returns the section of a function or a class, with the public methods of the class."""
    short = name.rpartition(".")[2]
    lines = [f"#### {name}\n", *_signature(short, member), docstring_text(inspect.getdoc(member) or "")]
    if inspect.isclass(member) and issubclass(member, BaseModel):
        return "\n".join([*lines, *settings(member), ""])
    for method, function in vars(member).items() if inspect.isclass(member) else ():
        if method.startswith("_") or not getattr(function, "__doc__", None):
            continue
        if isinstance(function, property) or inspect.isfunction(function):
            signature = _signature(method, function) if inspect.isfunction(function) else []
            lines += [f"##### {short}.{method}\n", *signature]
            lines += [docstring_text(inspect.getdoc(function) or "")]
    return "\n".join(lines)


def settings(model: type[BaseModel]) -> list[str]:
    """Returns a configuration's keys as a list: type, default, and the text below the key in the source."""
    texts: dict[str, str] = {}
    for base in model.__mro__[: model.__mro__.index(BaseModel)]:
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                texts[ast.unparse(field.target)] = " ".join(ast.literal_eval(after.value).split())
    lines = []
    for name, field in model.model_fields.items():
        kind = re.sub(r"\b(\w+\.)+", "", inspect.formatannotation(field.annotation))
        default = "" if field.is_required() else f" = {_default(field.default)}"
        text = f": {_escaped(texts[name])}" if name in texts else ""
        lines.append(f"- `{name}: {kind}{default}`{text}")
    return lines


def _default(value: Any) -> str:
    return f"{type(value).__name__}()" if isinstance(value, BaseModel) else repr(value)


def docstring_text(text: str) -> str:
    """Returns a Google-style docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        if line.endswith(":") and line[:-1] in SECTIONS:
            section = line[:-1]
            lines += [f"**{section}**\n"]
        elif section == "Example" and line.strip():
            lines += [line]
        elif item := re.fullmatch(r"    (\*{0,2}\w+): (.*)", line) if section else None:
            lines += [f"- `{item[1]}`: {item[2]}"]
        elif section and line.strip():
            lines += [line[4:] if not line.startswith("     ") else f"  {line.strip()}"]
        else:
            lines += [line]
    return _escaped("\n".join(lines)) + "\n"


class _Unquoted(str):
    """An annotation, printed without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, member: Any) -> list[str]:
    """Returns a fenced block with the signature of all but errors and configurations."""
    if inspect.isclass(member) and issubclass(member, Exception | BaseModel):
        return []
    signature = inspect.signature(member)
    arguments, starred = [], False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            arguments.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        annotation = parameter.annotation
        unquoted = _Unquoted(annotation) if isinstance(annotation, str) else annotation
        arguments.append(str(parameter.replace(annotation=unquoted)))
    result = signature.return_annotation
    answer = ""
    if not inspect.isclass(member) and result is not signature.empty:
        answer = f" -> {result if isinstance(result, str) else inspect.formatannotation(result)}"
    text = f"{name}({', '.join(arguments)}){answer}"
    if len(text) > WIDTH:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        text = f"{name}(\n{lines}){answer}"
    return ["```text", text, "```\n"]


def _option(name: str) -> str:
    """Returns how an option is written, with the kind of its value in capitals."""
    if not name.startswith("-"):
        return _cell(name.split(" <")[0])
    plain = re.sub(r"<(int|float)( range)?>", "N", name)
    return _cell(re.sub(r"<(\w+)>", lambda kind: "TEXT" if kind[1] == "str" else kind[1].upper(), plain))


def _help(text: str) -> str:
    return text.replace(f"0<=x<={options.LARGEST_SEED}", "x>=0")


def _escaped(text: str) -> str:
    """Returns text whose angle brackets are not tags; code is left as it is."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "\\<") for number, part in enumerate(parts))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
