"""The commands that need no training."""

import errno
import json
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from sweeps import sweep
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.cli.output import plain_warnings
from transfer3d.errors import UsageError
from transfer3d.run.environment import known_bad

LOST = str(Path(transfer3d.__file__).with_name("lost.html"))  # of the package: no user's path


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


def test_every_command_has_a_help_with_an_example(run):
    names = [
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    assert {
        "models",
        "inflate",
        "import",
        "correspond",
        "finetune",
        "evaluate",
        "predict",
        "synth",
        "demo",
    } <= set(names)
    for name in names:
        text = run(name, "--help").output
        assert "Example:" in text, name


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["modells"], 2, "No such command"),
        (["models", "p3d_resnet5O"], 2, "no student matches 'p3d_resnet5O'"),
        (["finetune", "p3d_tiny", "--set", "max_step=5"], 2, "did you mean 'max_steps'?"),
        (["finetune", "p3d_tiny", "--data", "nowhere"], 2, "nowhere"),
        (
            ["finetune", "p3d_tiny", "--resume"],
            2,
            "--resume needs the run's folder. Name it with -o RUN",
        ),
        (["finetune", "--resume"], 2, "--resume needs the run's folder. Name it with -o RUN"),
        (["correspond", "--resume"], 2, "--resume needs the run's folder. Name it with -o RUN"),
        (["bench", "data", "--data", "nowhere"], 2, "'nowhere' does not exist"),
        (["bench", "train", "--data", "nowhere"], 2, "'nowhere' does not exist"),
        (["correspond", "--recipe", "demo/finetune", "--teacher", "test_resnet"], 2, "`transfer3d finetune`"),
        (["correspond", "--weights", "none"], 2, "the recipe has no teacher"),
        (["correspond", "--teacher", "resnet5O", "--weights", "none"], 2, "resnet50"),
        (["recipe", "show", "demo/corespond"], 2, "did you mean 'demo/correspond'"),
        (["evaluate", "nothing.safetensors", "--data", "nowhere"], 4, "nothing.safetensors"),
        (["predict", "nothing.safetensors", "nothing.mp4"], 2, "nothing.mp4 does not exist"),
        (["predict", "nothing.safetensors", "."], 4, "nothing.safetensors"),
        (["synth", "out", "--size", "33"], 2, "--size 33"),
        (["finetune", "p3d_tiny", "--precision", "fp16", "--data", "."], 2, "fp16"),
        (["finetune", "p3d_tiny", "--data", ".", "--seed", str(10**30)], 2, "--seed"),
        (["inflate", "test_resnet", "--to", "p3d", "--seed", "-1"], 2, "--seed"),
        (["check", ".", "--browse", "-1"], 2, "--browse"),
        (["shard", ".", "-o", "out", "--seconds", "0"], 2, "--seconds"),
        (["shard", ".", "-o", "out", "--memory-gib", "0"], 2, "--memory-gib"),
    ],
)
def test_wrong_input_gets_one_sentence_and_its_exit_code(run, arguments, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a.safetensors"), 5, "error: a.safetensors"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), 5, "error: aaa: File name too long"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.safetensors"), 5, "error: a.safetensors"),
        (FileNotFoundError("no file"), 1, "bug: FileNotFoundError"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", LOST),
            1,
            "bug: FileNotFoundError",
        ),
    ],
)
def test_a_fault_of_the_disk_is_no_bug(run, fault, code, said, monkeypatch):
    def refuse(path):
        raise fault

    monkeypatch.setattr("transfer3d.run.checkpoints.info.inspect_checkpoint", refuse)
    result = run("info", "a.safetensors")
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert result.output.count("\n") == 1


def test_models_prints_facts_as_json(run):
    rows = {row["name"]: row for row in json.loads(run("models", "--json").output)}
    assert rows["p3d_resnet50"]["aliases"] == ["p3d63"]
    assert rows["t3d_densenet121"]["source"] == "densenet121"
    assert all(row["parameters"] <= 1_200_000 for name, row in rows.items() if name.endswith("_tiny"))


def test_models_finds_a_student_by_its_papers_name(run):
    assert [row["name"] for row in json.loads(run("models", "p3d63", "--json").output)] == ["p3d_resnet50"]


def test_env_names_the_decoder_this_torch_and_what_is_bad_about_it(run, monkeypatch):
    import torch

    monkeypatch.setattr("transfer3d.run.environment.known_bad", lambda version, cudnn: [f"{version} {cudnn}"])
    facts = json.loads(run("env", "--json").output)
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["decoder"]["decoder"] == "PyAV"
    assert facts["warnings"] == [f"{facts['versions']['torch']} {torch.backends.cudnn.version()}"]


@pytest.mark.parametrize(
    ("torch_version", "cudnn", "bad"),
    [("2.9.0+cu128", 91002, True), ("2.9.1", 91500, False), ("2.9.0", None, False), ("2.11.0", 91002, False)],
)
def test_the_known_bad_combination_is_named(torch_version, cudnn, bad):
    found = known_bad(torch_version, cudnn)
    assert bool(found) == bad
    assert not bad or "9.10.2" in found[0]


def test_the_gradients_of_small_maps_are_named_where_torch_gets_them_wrong():
    assert "smaller than its kernel" in known_bad("2.15.0+cpu", None)[0]


def test_recipe_commands(run):
    assert "demo/correspond" in run("recipe", "ls").output.split()
    shown = run("recipe", "show", "demo/correspond", "--set", "max_steps=3")
    assert "max_steps = 3" in shown.output
    assert run("recipe", "validate", "t3d/sec4.4-supervision-transfer").exit_code == 0


@pytest.mark.proc
def test_a_closed_pipe_is_no_error():
    code = f"{sys.executable} -m transfer3d recipe ls | head -n 0; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr


def test_a_warning_is_one_line_and_what_is_for_programmers_is_left_out(capsys, monkeypatch):
    def warn():
        warnings.warn("odd weights", stacklevel=1)
        warnings.warn("this will change", FutureWarning, stacklevel=1)
        warnings.warn("use the other function", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr(sys, "warnoptions", [])
    with plain_warnings():
        warn()
    assert capsys.readouterr().err == "transfer3d: warning: odd weights\n"
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with plain_warnings(), pytest.warns(FutureWarning, match="will change"):
        warn()


def test_what_the_library_logs_is_printed_once_in_a_plain_line(monkeypatch):
    def inspect(path):
        logging.getLogger("transfer3d.engine.trainer").warning(
            "checkpoint %s is damaged and was skipped", "step-2"
        )
        logging.getLogger("transfer3d.evaluation").info("for your information")
        raise UsageError("enough")

    monkeypatch.setattr("transfer3d.run.checkpoints.info.inspect_checkpoint", inspect)
    for _ in range(2):  # the handler is added once, however many commands a process runs
        done = CliRunner().invoke(app, ["info", "a.safetensors"])
        lines = done.output.splitlines()
        assert lines.count("transfer3d: warning: checkpoint step-2 is damaged and was skipped") == 1
        assert lines.count("transfer3d: for your information") == 1


def names(commands):
    registered = commands.registered_commands
    return [command.name or command.callback.__name__.replace("_", "") for command in registered]


@pytest.mark.parametrize("width", sweep(["60", "80", "120"], ["80"]))
def test_no_help_page_loses_a_placeholder(run, monkeypatch, width):
    """Markdown takes <student> for a tag and drops it, which leaves "./.safetensors" or "runs/--"."""
    monkeypatch.setenv("COLUMNS", width)
    commands = [[name] for name in names(app)]
    commands += [
        [group.name, name] for group in app.registered_groups for name in names(group.typer_instance)
    ]
    assert ["recipe", "show"] in commands
    for command in commands:
        page = run(*command, "--help").output
        assert "Usage" in page, command
        text = "".join(page.split())
        assert not re.search(r"runs/--|\./\.safetensors|Default:\.(?!/)", text), command
