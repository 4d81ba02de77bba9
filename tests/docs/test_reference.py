"""docs/reference.md says what --help says."""

import re
import runpy

import pytest
import typer
from blocks import ROOT

from transfer3d.cli.main import app


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "reference.py"))


def test_the_page_is_up_to_date(tool):
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert page == tool["reference"](), "docs/reference.md is old: run python tools/reference.py"


def test_it_has_every_command(tool):
    listed = re.findall(r"^## transfer3d (\w+)", tool["reference"](), re.MULTILINE)
    assert set(listed) == set(getattr(typer.main.get_command(app), "commands", {}))


def test_brackets_of_help_are_neither_tags_nor_links(tool):
    assert tool["_escaped"]("a `<tag>`, <shown> [x>=1]") == "a `<tag>`, \\<shown> \\[x>=1]"
