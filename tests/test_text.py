"""Text of others on a terminal, in a table, in JSON and in a spreadsheet."""

import io
import json

import pytest
from rich.table import Table

from transfer3d.cli.output import print_json
from transfer3d.errors import did_you_mean
from transfer3d.text import PlainConsole, cell, visible

WINDOW_TITLE = "\x1b]0;owned\x07"


def test_nothing_commands_a_terminal():
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, width=80)
    console.print(f"a {WINDOW_TITLE} b")
    table = Table("class")
    table.add_row(WINDOW_TITLE)
    console.print(table)
    assert "\x1b]0" not in file.getvalue()
    assert file.getvalue().count(r"\x1b]0;owned\x07") == 2


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\x9b", "\x7f", "\r"])
def test_marks_are_shown(mark):
    assert visible(f"a{mark}b") == f"a{ascii(mark)[1:-1]}b"


def test_letters_of_all_scripts_stay():
    text = "caf\u00e9 \u05e9\u05dc\u05d5\u05dd \u65e5\u672c\n\t[red] $x$"
    assert visible(text) == text


def test_json_stays_json(capsys):
    value = {"class": f"{WINDOW_TITLE}\x7f\x9b\u202e"}
    print_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert said.isascii()
    assert not set(said) & {"\x1b", "\x7f"}


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_is_a_formula(value):
    assert cell(value) == f"'{value}"


@pytest.mark.parametrize("value", ["a.mp4", "1", 3, 0.5, ""])
def test_other_cells_stay(value):
    assert cell(value) == value


@pytest.mark.parametrize(
    "name, known, near",
    [
        ("meine", ["timeline.png", "meine Videos"], "meine Videos"),
        ("resnet5", ["resnet50d", "resnet50"], "resnet50"),
        ("P3D_tin", ["t3d_tiny", "p3d_tiny"], "p3d_tiny"),
        ("nix", ["x", "first"], None),
    ],
)
def test_the_nearest_name_begins_so_or_is_alike(name, known, near):
    assert did_you_mean(name, known) == (f" (did you mean '{near}'?)" if near else "")
