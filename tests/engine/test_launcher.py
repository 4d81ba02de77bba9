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
from transfer3d.engine.launcher import launcher_precision, world_size
from transfer3d.errors import SetupError, UsageError


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
def test_a_group_that_is_not_there_is_an_error(name, monkeypatch):
    for other in ("WORLD_SIZE", "LOCAL_RANK", "RANK", "MASTER_ADDR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "2")
    assert world_size() == 2
    with pytest.raises(SetupError, match="2 processes were launched, but"):
        processes()


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
