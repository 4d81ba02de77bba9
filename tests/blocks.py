"""The marked blocks of the Markdown files: parsed, run in order, or checked against the command line.

The comment on the line before a block of bash or Python says how it is tested. `<!-- run -->` and
`<!-- run-slow -->`: it is run. `<!-- file: PATH -->`: it equals that file, which has a test of its own.
`<!-- needs: gpu -->` (network, nodes, data, hours): it is parsed, bash by bash, every transfer3d command by
its own options, Python by the compiler.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner

from transfer3d.cli.main import app

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKS = {"run", "run-slow", *(f"needs: {what}" for what in ("gpu", "network", "nodes", "data", "hours"))}
LANGUAGES = {"bash", "python"}  # of the blocks that have a mark
FILE = "file: "
SHELL = "|&;<>"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        where: `file:line` of its fence.
        language: the word after the fence.
        mark: the text of the comment on the line before, or "".
        text: between the fences.
    """

    where: str
    language: str
    mark: str
    text: str


def blocks_of(path: Path) -> list[Block]:
    """Returns the fenced blocks of a Markdown file, in order."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, name: str) -> list[Block]:
    found: list[Block] = []
    lines = text.splitlines()
    opened: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number
            continue
        comment = re.fullmatch(r"<!-- (.*) -->", lines[opened - 1]) if opened else None
        inside = "".join(f"{line}\n" for line in lines[opened + 1 : number])
        mark = comment[1] if comment else ""
        found.append(Block(f"{name}:{opened + 1}", lines[opened][3:].strip(), mark, inside))
        opened = None
    assert opened is None, f"{name}:{(opened or 0) + 1} is not closed"
    return found


def statements(block: Block) -> list[str]:
    """Returns a bash block's lines, with continued lines and here-documents as one."""
    found: list[str] = []
    until = ""
    for line in block.text.replace("\\\n", " ").splitlines():
        if until:
            found[-1] += f"\n{line}"
            until = "" if line == until else until
        elif line.strip() and not line.startswith("#"):
            found.append(line)
            opens = re.search(r"<<'?(\w+)'?", line)
            until = opens[1] if opens else ""
    assert not until, f"{block.where}: the here-document has no end"
    return found


def commands(block: Block) -> list[list[str]]:
    """Returns the arguments of every transfer3d command of a bash block, under a launcher or not."""
    found = []
    for statement in statements(block):
        line = re.sub(r"(?<=\s)\$\w+(?=\s|$)", "", statement.split("\n")[0])  # an option, or nothing
        lexer = shlex.shlex(line, posix=True, punctuation_chars=SHELL)
        lexer.whitespace_split = True
        words = list(lexer)
        for at, word in enumerate(words):
            if word == "transfer3d" and (
                at == 0 or words[at - 1] == "-m" or set(words[at - 1]) <= set(SHELL)
            ):
                ends = [end for end in range(at, len(words)) if set(words[end]) <= set(SHELL)]
                found.append(words[at + 1 : min(ends, default=len(words))])
    return found


def check_arguments(arguments: Sequence[str]) -> None:
    """Parses a command line as the command itself would, and does not run it.

    Raises:
        click.UsageError: no such option, a value of another type, one too many or too few.
    """
    command, rest = typer.main.get_command(app), list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    if rest not in (["--help"], ["--version"]):
        command.make_context(str(command.name), rest)


def check(block: Block) -> None:
    """Checks a block without running it, against its file, bash and --help, or Python's compiler."""
    if block.mark.startswith(FILE):
        text = (ROOT / block.mark.removeprefix(FILE)).read_text(encoding="utf-8")
        assert block.text == text, f"{block.where} differs from {block.mark.removeprefix(FILE)}. Copy it."
    if block.language == "python":
        compile(block.text, block.where, "exec")
        return
    parsed = subprocess.run(["bash", "-n"], input=block.text, text=True, check=False, capture_output=True)
    assert parsed.returncode == 0, f"{block.where}: {parsed.stderr}"
    for arguments in commands(block):
        try:
            check_arguments(arguments)
        except Exception as error:
            said = getattr(error, "message", error)
            raise AssertionError(f"{block.where}: transfer3d {shlex.join(arguments)}: {said}") from error


def run(block: Block, names: dict[str, object]) -> None:
    """Runs a block in the working folder: our commands in this process, all else by bash.

    Args:
        block: marked `run` or `run-slow`.
        names: what Python blocks of the same file have defined so far.
    """
    if block.language == "python":
        exec(compile(block.text, block.where, "exec"), names)
        return
    for statement in statements(block):
        _run_statement(statement.split("  #")[0].strip(), block.where)


def _run_statement(statement: str, where: str) -> None:
    command, _, target = statement.partition(" > ")
    if command.startswith("transfer3d ") and not set(command + target) & set(f"{SHELL}$`"):
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{where}: {statement}\n{done.output}"
        if target:
            Path(target).write_text(done.stdout, encoding="utf-8")
        return
    script = f'PATH="{Path(sys.executable).parent}:$PATH"\n{statement}'
    finished = subprocess.run(["bash", "-ec", script], text=True, capture_output=True, check=False)
    assert finished.returncode == 0, f"{where}: {statement}\n{finished.stdout}{finished.stderr}"
