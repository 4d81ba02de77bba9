"""Two real processes on gloo: one curve, one end."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from transfer3d.cli.main import app

pytestmark = pytest.mark.proc
STEPS = 6
OPTIONS = ["--workers", "0", "--precision", "fp32"] + [
    part
    for value in (
        "batch_size=8", "log_every=1", f"max_steps={STEPS}", "validate_every=2", "save_every=2", "lr=0.01",
        "batch_norm=frozen", "schedule.kind=plateau", "schedule.patience=1", "schedule.warmup=0.4",
        "optimizer.average=0.9", "augment.flip=false", "head_first=2", "accumulate=2",
    )
    for part in ("--set", value)
]  # fmt: skip
FAULTY = """
import os, signal, sys, time
from transfer3d.engine.trainer import Trainer

whole = Trainer._train_step

def step(trainer, batch):
    if trainer.step == 3 and trainer.accelerator.process_index == 1:
        open(sys.argv[-1] + '/../fault', 'w').close()
        {fault}
    return whole(trainer, batch)

Trainer._train_step = step
from transfer3d.cli.main import main
main()
"""
FAULTS = {
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "bug": "raise ZeroDivisionError('a bug in one process')",
    "nan": "next(trainer.objective.parameters()).data.fill_(float('nan'))",
}


def arguments(data, out):
    return [*map(str, ("finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", data)), *OPTIONS,
            "-o", str(out)]  # fmt: skip


def two_processes(program, arguments):
    """What `accelerate launch` runs on GPUs; on CPUs it would start one process only."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        [*command, *program, *arguments],
        capture_output=True, text=True, env=environment, check=False, timeout=240,
    )  # fmt: skip


def rows(out, split="train"):
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


@pytest.fixture(scope="module")
def alone(digits_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    done = CliRunner().invoke(app, arguments(digits_folder / "shards", out))
    assert done.exit_code == 0, done.output
    return out


def assert_same_curve(out, alone):
    assert [row["step"] for row in rows(out)] == list(range(1, STEPS + 1))
    for ours, theirs in zip(rows(out), rows(alone), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["clip_accuracy"] == pytest.approx(theirs["clip_accuracy"])
        assert ours["lr"] == theirs["lr"]
    first, second = (load_file(folder / "model.safetensors") for folder in (out, alone))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5)


GPU = [
    part
    for value in (
        "convolutions=2d",
        "prefetch=true",
        "fused_optimizer=true",
        "gradient_views=true",
    )
    for part in ("--set", f"gpu.{value}")
]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], GPU], ids=["", "gpu"])
def test_two_processes_have_the_curve_of_one_with_twice_the_batch(alone, digits_folder, tmp_path, options):
    assert len(list((digits_folder / "shards").glob("*train*.tar"))) == 1  # fewer than processes
    more = arguments(digits_folder / "shards", tmp_path / "run") + options
    done = two_processes(["-m", "transfer3d"], more)
    assert done.returncode == 0, done.stderr
    assert_same_curve(tmp_path / "run", alone)
    assert len({row["lr"] for row in rows(alone)}) > 2  # a warm-up, and a plateau
    assert rows(tmp_path / "run", "val") == rows(alone, "val")


def broken(fault, digits_folder, tmp_path):
    """Runs two processes, the second of which comes to grief in its fourth step."""
    program = tmp_path / "faulty.py"
    program.write_text(FAULTY.format(fault=FAULTS[fault]))
    done = two_processes([str(program)], arguments(digits_folder / "shards", tmp_path / "run"))
    seconds = time.time() - (tmp_path / "fault").stat().st_mtime
    codes = {
        path.name: json.loads(path.read_text())["exit_code"] for path in (tmp_path / "run").glob("exit.rank*")
    }
    return done, seconds, codes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "shown"),
    [("bug", "a bug in one process"), ("kill", "SIGKILL")],
)
def test_a_process_that_is_lost_ends_the_run_which_another_number_resumes(
    fault, shown, alone, digits_folder, tmp_path
):
    done, seconds, codes = broken(fault, digits_folder, tmp_path)
    assert done.returncode != 0
    assert seconds < 30
    assert shown in done.stderr
    assert "lost another process" in done.stderr
    assert codes["exit.rank0.json"] == 5
    resumed = CliRunner().invoke(app, ["finetune", "-o", str(tmp_path / "run"), "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert "resuming at step 2" in resumed.output
    assert "the run had 2 processes, now 1" in resumed.output
    assert_same_curve(tmp_path / "run", alone)


@pytest.mark.slow
def test_what_is_not_finite_in_one_process_stops_both_before_the_step(digits_folder, tmp_path):
    done, seconds, codes = broken("nan", digits_folder, tmp_path)
    assert done.returncode != 0
    assert seconds < 30
    assert codes == {"exit.rank0.json": 6, "exit.rank1.json": 6}
    assert "step 4: loss nan" in done.stderr
    assert "with clips" in done.stderr
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-2"]
    saved = load_file(tmp_path / "run" / "checkpoints" / "step-2" / "state.safetensors")
    assert all(torch.isfinite(tensor.float()).all() for tensor in saved.values())
