"""Two real processes on gloo, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import transfer3d
from transfer3d.evaluation.protocols import CENTRE
from transfer3d.run.inference.evaluate import evaluate_file

pytestmark = pytest.mark.proc
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TINY = ["--workers", "0", "--set", "batch_size=8", "--set", "log_every=1", "--precision", "fp32"]


def launch(processes, *arguments):
    """What `accelerate launch` runs on GPUs; on CPUs it would start one process only."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "transfer3d", *map(str, arguments)]
    environment = {**ENVIRONMENT, "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)


@pytest.mark.slow
def test_two_processes_train_one_student(digits_folder, tmp_path):
    out = tmp_path / "run"
    done = launch(
        2, "correspond", "--recipe", "demo/tiny-correspond", "--weights", "none",
        "--data", digits_folder / "shards", "-o", out, *TINY, "--set", "max_steps=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("3 steps of 8 clips") == 1
    assert "on 2 processes" in done.stderr
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(
        torch.isfinite(t).all() for t in transfer3d.load(out / "model.safetensors").state_dict().values()
    )


@pytest.mark.slow
def test_the_validation_score_of_two_processes_is_that_of_the_saved_student(digits_folder, tmp_path):
    out, data = tmp_path / "run", digits_folder / "shards"
    done = launch(
        2, "finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", data, "-o", out, *TINY,
        "--set", "max_steps=12",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {json.loads(path.read_text())["exit_code"] for path in out.glob("exit.rank*.json")} == {0}
    assert len(list(out.glob("exit.rank*.json"))) == 2
    scored = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    report = evaluate_file(
        out / "model.safetensors", str(data), split="val", protocol=CENTRE, precision="fp32", workers=0,
        out=None, console=Console(quiet=True),
    )  # fmt: skip
    assert report is not None
    assert (scored["split"], scored["video_top1"]) == ("val", pytest.approx(report["video_top1"]))


@pytest.mark.slow
def test_a_refused_folder_ends_both_processes_at_once(digits_folder, tmp_path):
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    done = launch(
        2, "correspond", "--recipe", "demo/tiny-correspond", "--weights", "none",
        "--data", digits_folder / "shards", "-o", tmp_path / "file" / "run", *TINY,
    )  # fmt: skip
    assert done.returncode != 0
    assert "cannot be written" in done.stderr
    assert time.monotonic() - started < 60


def finetune(digits_folder, out, *more):
    command = [sys.executable, "-m", "transfer3d", "finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune"]
    command += ["--data", str(digits_folder / "shards"), "-o", str(out), *TINY]
    command += ["--set", "max_steps=30", "--set", "save_every=5", *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip


def wait_for(path: Path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kill_9_and_resume_give_bit_equal_weights(digits_folder, tmp_path):
    short = ["--set", "max_steps=6", "--set", "save_every=2"]
    straight = finetune(digits_folder, tmp_path / "straight", *short)
    out = tmp_path / "killed"
    process = finetune(digits_folder, out, *short)
    wait_for(out / "checkpoints" / "step-2", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "finished.json").exists()
    assert straight.wait(240) == 0, straight.stderr.read()
    resumed = finetune(digits_folder, out, *short, "--resume")
    assert resumed.wait(240) == 0, resumed.stderr.read()
    first = transfer3d.load(tmp_path / "straight" / "model.safetensors").state_dict()
    second = transfer3d.load(out / "model.safetensors").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 7))
    assert len(steps) == 7  # and one validation


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(digits_folder, tmp_path, seed):
    more = ["--workers", "2"] + [
        part
        for value in (
            "save_every=3", "validate_every=7", "accumulate=2", "optimizer.average=0.9", "dropout=0.5",
            "schedule.kind=plateau", "schedule.patience=1", "head_first=9", "precise_batch_norm=16",
        )
        for part in ("--set", value)
    ]  # fmt: skip
    straight = finetune(digits_folder, tmp_path / "straight", *more)
    assert straight.wait(240) == 0, straight.stderr.read()
    out, random, kills = tmp_path / "killed", Random(seed), 0
    while not (out / "finished.json").exists():
        process = finetune(
            digits_folder, out, *more, *(["--resume"] if (out / "recipe.toml").exists() else [])
        )
        wait_for(out / ("checkpoints/step-3" if kills == 0 else ".transfer3d-lock"), process)
        try:
            process.wait(random.uniform(2, 9 + kills) if kills else 0)  # a busy machine is slow to start
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        assert kills < 30
    assert kills
    first, second = (load_file(folder / "model.safetensors") for folder in (tmp_path / "straight", out))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_sigterm_to_all_its_processes_saves_and_exits_with_75(digits_folder, tmp_path):
    """As SLURM sends it: to those that decode too."""
    out = tmp_path / "preempted"
    process = finetune(digits_folder, out, "--workers", "2", "--set", "max_steps=300")
    wait_for(out / "checkpoints" / "step-5", process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 75
    assert "--resume" in process.stderr.read()


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_in_time(digits_folder, tmp_path):
    """torchrun hands it on, makes 1 of every exit code, and kills after 30 seconds."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "transfer3d", "finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune", *TINY]
    command += ["--data", str(digits_folder / "shards"), "-o", str(out)]
    command += ["--set", "max_steps=3000", "--set", "save_every=5"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**ENVIRONMENT, "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    wait_for(out / "checkpoints" / "step-5", process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    codes = [json.loads((out / f"exit.rank{rank}.json").read_text())["exit_code"] for rank in (0, 1)]
    assert codes == [75, 75], said  # so they were not killed
    newest = max(int(path.name.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*"))
    assert f"stopped at step {newest} of" in said
