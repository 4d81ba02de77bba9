"""Help pages on a terminal of 80 columns and of 60."""

import importlib
import io

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.models.registry import entry, list_models

LEAST = {80: 31, 60: 12}
"""Columns of an option's explanation, by those of the terminal."""


def pages():
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        yield from ([name, sub] for sub in inner) if inner else [[name]]


@pytest.mark.parametrize("width", [80, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("page", [[], *pages()], ids=" ".join)
def test_a_page_is_readable(page, width, monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    lines = CliRunner().invoke(app, [*page, "--help"], env={"COLUMNS": str(width)}).output.splitlines()
    assert max(map(len, lines)) <= width
    (own,) = [line for line in lines if "--help" in line and "Show this" in line]
    assert not page or width - 1 - own.index("Show this") >= LEAST[width]
    assert "…" not in "".join(lines)
    frame = [line for line in lines if line.startswith("│")]
    assert not [line for line in frame if "922337" in line or "int range" in line]


def test_every_command_has_its_panel_and_says_what_it_does_first():
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    places = [output.index(f"─ {panel} ") for panel in ("Start", "Train", "Test", "Look", "Data")]
    assert places == sorted(places)
    for page in {page[0] for page in pages()}:
        assert f"│ {page} " in output


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_of_students_is_whole_on_a_terminal(width, monkeypatch):
    console = Console(file=io.StringIO(), width=width)
    monkeypatch.setattr(importlib.import_module("transfer3d.cli.models"), "out", lambda: console)
    assert CliRunner().invoke(app, ["models"]).exit_code == 0
    page = console.file.getvalue()
    assert max(map(len, page.splitlines())) <= width
    for name in list_models():
        student = entry(name)
        (line,) = [line.split() for line in page.splitlines() if line.split()[:1] == [name]]
        clip = f"{student.clip.frames}x{student.clip.size}x{student.clip.size}@{student.clip.stride}"
        assert [part for part in line if part.endswith(clip)]
        assert (student.paper in " ".join(line)) == (width > 100)
