"""What launchers ask for is followed or refused; processes without a GPU form a group by themselves."""

import json
import os
import subprocess
import sys

import pytest
import torch
from media import write_numbered
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.engine.distributed import processes, resolve_precision
from transfer3d.engine.launcher import SIZES, launcher_precision, world_size
from transfer3d.errors import SetupError, UsageError


@pytest.fixture
def alone(monkeypatch):
    """A process that no launcher started."""
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in (*SIZES, "LOCAL_RANK", "RANK", "MASTER_ADDR"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ACCELERATE_USE_FSDP", "true", "requests FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "requests DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "requests Megatron-LM"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "--set compile=true"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "--set accumulate=4"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "mixed_precision=fp16"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "mixed_precision=fp8"),
        ("WORLD_SIZE", "two", "not a number of processes"),
    ],
)
def test_what_is_not_supported_is_refused_by_every_command(name, value, said, monkeypatch, tmp_path):
    monkeypatch.setenv(name, value)
    write_numbered(tmp_path / "a.mp4", 4)
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=2), tmp_path / "student.safetensors")
    commands = [
        ("finetune", "p3d_tiny", "--data", tmp_path, "-o", tmp_path / "run"),
        ("predict", tmp_path / "student.safetensors", tmp_path / "a.mp4", "--precision", "auto"),
    ]
    for command in commands:
        done = CliRunner().invoke(app, [str(argument) for argument in command])
        assert done.exit_code == 2, done.output
        assert said in done.output
    assert not (tmp_path / "run").exists()


def test_what_accelerate_launch_says_by_default_is_no_setting(monkeypatch):
    for name, value in (
        ("ACCELERATE_MIXED_PRECISION", "no"), ("ACCELERATE_DYNAMO_BACKEND", "NO"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"), ("ACCELERATE_USE_FSDP", "false"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    assert processes().num_processes == 1
    assert launcher_precision() is None


def test_bf16_of_the_launcher_is_followed_unless_the_command_says_otherwise(monkeypatch):
    monkeypatch.setattr("transfer3d.engine.distributed.bf16_is_fast", lambda: False)
    assert resolve_precision("auto") == "fp32"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert [resolve_precision(asked) for asked in ("auto", "fp32")] == ["bf16", "fp32"]


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_a_group_that_is_not_there_is_an_error(name, alone, monkeypatch):
    monkeypatch.setenv(name, "2")
    assert world_size() == 2
    with pytest.raises(SetupError, match="2 processes were launched, but"):
        processes()


STEP = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0"}
BATCH = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}  # the script of `sbatch` itself


@pytest.mark.parametrize(
    ("variables", "size"),
    [
        (STEP, None),
        ({**STEP, "WORLD_SIZE": "1"}, 1),
        ({**STEP, "WORLD_SIZE": "16"}, 16),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, 1),
        (BATCH, 1),
        ({"SLURM_STEP_NUM_TASKS": "2"}, 1),
    ],
)
def test_processes_of_srun_alone_are_refused_and_a_batch_script_is_not(variables, size, alone, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if size is not None:
        assert world_size() == size
        return
    for count in (world_size, processes):
        with pytest.raises(UsageError, match=r"srun started 2 processes .* `srun torchrun \.\.\.` or "):
            count()


@pytest.mark.parametrize(
    "command",
    [
        "check .", "demo -o out", "report .", "export s --format hub -o out",
        "deepdraw s --class 0 -o out.gif", "probe a --test b", "tsne a -o out.png",
    ],
)  # fmt: skip
def test_what_runs_in_one_process_is_refused_in_several(command, alone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = CliRunner().invoke(app, command.split())
    name = command.split()[0]
    assert done.exit_code == 2, done.output
    assert (
        f"error: {name} runs in one process. Start it without a launcher, or unset WORLD_SIZE" in done.output
    )
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    assert not list(tmp_path.iterdir())
    assert CliRunner().invoke(app, ["recipe", "ls"]).exit_code == 0  # a variable of a container, or a login


@pytest.mark.proc
def test_two_processes_of_srun_do_nothing(alone, tmp_path):
    command = [sys.executable, "-m", "transfer3d", "check", str(tmp_path), "--json"]
    for rank in ("0", "1"):
        environment = {**os.environ, **STEP, "SLURM_PROCID": rank}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert not done.stdout
        assert "srun started 2 processes" in done.stderr


@pytest.mark.slow
@pytest.mark.proc
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_torchrun_alone_makes_one_group_of_cpus(digits_folder, tmp_path):
    student = transfer3d.create_model("p3d_tiny", num_classes=40, seed=0)
    transfer3d.save(student, tmp_path / "student.safetensors")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "transfer3d", "evaluate", str(tmp_path / "student.safetensors"), "--json"]
    command += ["--data", str(digits_folder / "shards"), "--split", "val", "--workers", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 40


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="choose auto, bf16 or fp32"):
        resolve_precision("fp16")
