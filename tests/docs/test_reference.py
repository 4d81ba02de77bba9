"""The reference says what docstrings and --help say."""

import runpy
import sys

import pytest
import typer
from blocks import ROOT

import transfer3d
from transfer3d.cli.main import app

TOOL = ROOT / "tools" / "reference.py"
PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


def test_the_page_is_up_to_date(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    assert tool["main"]() == 0, capsys.readouterr().err


def test_an_old_page_is_seen_and_written_anew(tool, monkeypatch, capsys, tmp_path):
    main, page = tool["main"], tmp_path / "reference.md"
    monkeypatch.setitem(main.__globals__, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    for text in (None, PAGE + "more\n"):
        if text:
            page.write_text(text)
        assert main() == 1
        assert "python tools/reference.py" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["reference.py"])
    assert main() == 0
    assert page.read_text(encoding="utf-8") == tool["reference"]()


def test_it_has_every_command_and_every_public_name():
    def words(command, path):
        for name, below in getattr(command, "commands", {}).items():
            yield from words(below, f"{path} {name}")
        if not hasattr(command, "commands"):
            yield path

    commands = list(words(typer.main.get_command(app), "transfer3d"))
    assert "transfer3d recipe show" in commands
    for name in [*commands, *(f"transfer3d.{name}" for name in transfer3d._HOMES)]:
        assert f"## {name}\n" in PAGE, name
    assert "| `--plot X.png` |" in PAGE


def test_a_docstring_becomes_lists(tool):
    text = """Sums up.

Args:
    one: a `<tag>`, <shown>
        over two lines.
    **more: of it.

Returns:
    A number.
"""
    assert tool["docstring_text"](text).split("\n") == [
        "Sums up.", "",
        "**Args**", "", "- `one`: a `<tag>`, \\<shown>", "  over two lines.", "- `**more`: of it.", "",
        "**Returns**", "", "A number.", "",
    ]  # fmt: skip
