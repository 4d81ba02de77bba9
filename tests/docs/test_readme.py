"""The README's commands: every block is run, or held against the command line's own --help."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from transfer3d.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    lines = "\n".join(blocks("bash")).splitlines()
    stripped = [line.split("  #")[0].strip() for line in lines]
    return [line for line in stripped if line.startswith("transfer3d ")]


def test_there_are_commands_to_check():
    assert len(commands()) > 8
    assert len(blocks("python")) >= 1


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_exists_with_its_options(command):
    words = shlex.split(command)[1:]
    root = typer.main.get_command(app)
    if words[0] == "--help":
        return
    assert words[0] in root.commands, command
    known = {name for parameter in root.commands[words[0]].params for name in parameter.opts}
    used = {word.split("=")[0] for word in words if word.startswith("-") and not word[1:2].isdigit()}
    assert used <= known, f"{command}: {used - known}"


def test_the_block_on_the_built_in_dataset_and_the_python_block_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = next(block for block in blocks("bash") if "transfer3d synth" in block)
    for line in block.strip().splitlines():
        arguments = shlex.split(line)[1:]
        if arguments[0] == "synth":
            arguments += ["--val", "1", "--test", "1"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert (tmp_path / "p3d_resnet18.safetensors").exists()


def test_every_picture_and_file_that_the_readme_names_is_there():
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README) + re.findall(r"`(tools/[\w.]+)`", README)
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
