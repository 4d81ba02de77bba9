"""Every picture of the documentation comes from a command, and every picture that is made is shown."""

import re
import shutil
import subprocess

import pytest
from blocks import FILES, ROOT, check_arguments

IMAGES = ROOT / "docs" / "images"


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import pictures

    return pictures


def test_what_is_shown_what_is_there_and_what_is_made_are_the_same(pictures):
    shown = {
        name
        for file in FILES
        for name in re.findall(r"!\[[^\]]+\]\((?:docs/)?images/([^)]+)\)", file.read_text("utf-8"))
    }
    assert shown == {path.name for path in IMAGES.iterdir()}
    assert shown == {*pictures.MADE, *pictures.ELSEWHERE}
    assert not {*pictures.MADE} & {*pictures.ELSEWHERE}


def test_pictures_are_small():
    assert max(path.stat().st_size for path in IMAGES.iterdir()) < 300_000


def test_its_commands_are_right_and_leave_what_it_reads(pictures):
    for arguments in pictures.COMMANDS.values():
        check_arguments(arguments.split())
    left = set(pictures.COMMANDS)
    assert {
        path.replace("cam/test-000013.png", "cam/test-000013.gif") for path in pictures.COPIES.values()
    } <= left
    assert {view.page for view in pictures.PAGES.values()} <= left


def test_make_calls_it():
    rule = subprocess.run(
        [shutil.which("make") or pytest.skip("no make"), "-n", "-o", ".venv/.ready", "pictures"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "tools/pictures.py" in rule.stdout.split()


def test_without_chromium_it_says_what_stays(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    assert pictures.make_pages(tmp_path) == []
    assert (
        "no Chromium here: report.png, report-phone.png, comparison.png stay as they are"
        in capsys.readouterr().out
    )
