"""docs/reference.md says what the docstrings and --help say."""

import re
import runpy

import pytest
import typer
from blocks import ROOT

import transfer3d
import transfer3d.data
from transfer3d.cli.main import app


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "reference.py"))


def test_the_page_is_up_to_date(tool):
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert page == tool["reference"](), "docs/reference.md is old: run python tools/reference.py"


def test_it_has_every_command_and_every_public_name_once(tool):
    text = tool["reference"]()
    names = re.findall(r"^#### (transfer3d\..*)", text, re.MULTILINE)
    listed = re.findall(r"^### transfer3d (\w+)", text, re.MULTILINE)
    assert set(listed) == set(getattr(typer.main.get_command(app), "commands", {}))
    repeated = {f"transfer3d.data.{name}" for name in {*transfer3d.__all__} & {*transfer3d.data.__all__}}
    public = {f"transfer3d.{name}" for name in transfer3d.__all__}
    public |= {f"transfer3d.data.{name}" for name in transfer3d.data.__all__} - repeated
    assert sorted(names) == sorted(public)


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
