"""Odd places to run in: closed streams, full pipes, folders that are gone. No traceback, no exit 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from transfer3d.cli import output
from transfer3d.cli.main import app
from transfer3d.errors import SetupError
from transfer3d.files import home_folder

LIST = f"{sys.executable} -m transfer3d recipe ls"


def shell(command, **options):
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False, **options
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    return done


@pytest.mark.proc
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed):
    assert shell(f"{LIST} {closed}").returncode == 0


@pytest.mark.proc
@pytest.mark.parametrize(("to", "code"), [("> /dev/full", 5), ("| true; exit ${PIPESTATUS[0]}", 0)])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_nobody_takes(to, code):
    done = shell(f"{LIST} {to}")
    assert done.returncode == code
    assert ("No space left" in done.stderr) == (code == 5)


@pytest.mark.proc
def test_a_current_folder_that_is_gone(tmp_path):
    done = shell(f"mkdir gone; cd gone; rmdir ../gone; {LIST}", cwd=tmp_path, env=_environment())
    assert (done.returncode, "the current folder is gone" in done.stderr) == (5, True)


@pytest.mark.proc
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_text_that_the_terminal_cannot_write(encoding):
    show = f"{sys.executable} -m transfer3d recipe show demo/tiny-finetune --set source=\u65e5"
    done = shell(show, env=_environment() | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, r"\u65e5" in done.stdout) == (0, True)


@pytest.mark.proc
@pytest.mark.parametrize(
    "environment", [{"COLUMNS": "20"}, {"COLUMNS": "1"}, {"TERM": "dumb"}, {"LC_ALL": "C"}]
)
def test_narrow_and_plain_terminals(environment):
    done = shell(f"{LIST}; {LIST.replace('ls', '--help')}", env=_environment() | environment)
    assert (done.returncode, done.stderr) == (0, "")


def _environment():
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return {**os.environ, "PYTHONPATH": paths}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (FileNotFoundError(2, "No such file or directory", "/gone/x"), "/gone/x: No such file"),
        (IsADirectoryError(21, "Is a directory", "/x"), "/x: Is a directory"),
    ],
)
def test_faults_of_the_machine_are_no_bugs(error, said, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("transfer3d.recipes.load.load_recipe", fail)
    done = CliRunner().invoke(app, ["recipe", "show", "demo/tiny-finetune"])
    assert (done.exit_code, said in done.output) == (5, True), done.output


def test_a_bug_stays_one(monkeypatch):
    monkeypatch.setattr("transfer3d.recipes.load.load_recipe", lambda *_: 1 / 0)
    assert CliRunner().invoke(app, ["recipe", "show", "x"]).exit_code == 1


def test_a_user_without_a_home(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(SetupError, match="Set HOME"):
        home_folder()


def test_a_record_of_the_log_is_one_line(capsys):
    output.print_log()
    output.logging.getLogger("transfer3d").warning("a\nb\tc\x1b")
    assert capsys.readouterr().err == "transfer3d: warning: a\\nb\\tc\\x1b\n"
