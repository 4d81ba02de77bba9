"""A process that hangs is named and ends the run; one whose launcher died saves and ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pair
import psutil
import pytest
import torch
from safetensors.torch import load_file

import transfer3d

pytestmark = [pytest.mark.proc, pytest.mark.slow, pytest.mark.timeout(600)]
TRAINER, STEPS = "transfer3d.engine.trainer:Trainer", 4
OPTIONS = ["--workers", "0", "--precision", "fp32"] + [
    part for value in ("batch_size=8", f"max_steps={STEPS}", "save_every=2") for part in ("--set", value)
]
TASKS = {
    "finetune": ("finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune"),
    "correspond": ("correspond", "--recipe", "demo/tiny-correspond", "--weights", "none"),
}


def arguments(task, data, out):
    return [*TASKS[task], "--data", str(data), "-o", str(out), *OPTIONS]


def said(output, rank):
    return output.with_name(f"{output.name}.{rank}").read_text()


def end_of_hung(both, hung):
    """Waits for the process that does not hang, and returns its code; the other one is then killed."""
    other, stopped = both[1 - hung], both[hung]
    other.join(200)
    assert stopped.is_alive()
    stopped.kill()
    stopped.join()
    return other.exitcode


def is_named(text, process, rank):
    return f"process {rank} (pid {process.pid} on " in text and "has not responded for 10 s" in text


@pytest.fixture(scope="module")
def straight(digits_folder, tmp_path_factory):
    """The run that nothing disturbs."""
    out = tmp_path_factory.mktemp("straight") / "run"
    codes = pair.end(pair.start(arguments("finetune", digits_folder / "shards", out), out.with_name("said")))
    assert codes == [0, 0]
    return out


@pytest.mark.parametrize(("call", "number"), [("_train_step", 4), ("_validate", 1)])
@pytest.mark.parametrize("hung", [0, 1])
def test_a_hung_process_is_named_and_its_run_resumes(straight, digits_folder, tmp_path, hung, call, number):
    out, output = tmp_path / "run", tmp_path / "said"
    fault = (pair.stop_in_call, TRAINER, call, number, hung)
    both = pair.start(arguments("finetune", digits_folder / "shards", out), output, fault)
    assert end_of_hung(both, hung) == 5
    assert is_named(said(output, 1 - hung), both[hung], hung)
    end = json.loads((out / f"exit.rank{1 - hung}.json").read_text())
    assert end["exit_code"] == 5
    assert end["error"] in said(output, 1 - hung)
    again = pair.start(["finetune", "-o", str(out), "--resume"], output)
    assert pair.end(again) == [0, 0], said(output, 0) + said(output, 1)
    assert "resuming at step 2" in said(output, 0)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("hung", [0, 1])
def test_a_hung_process_ends_correspondence(digits_folder, tmp_path, hung):
    output = tmp_path / "said"
    fault = (pair.stop_in_call, TRAINER, "_train_step", 3, hung)
    both = pair.start(arguments("correspond", digits_folder / "shards", tmp_path / "run"), output, fault)
    assert end_of_hung(both, hung) == 5
    assert is_named(said(output, 1 - hung), both[hung], hung)


@pytest.mark.parametrize("hung", [0, 1])
def test_a_hung_process_ends_an_evaluation(digits_folder, tmp_path, hung):
    student, output = tmp_path / "student.safetensors", tmp_path / "said"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=40, seed=0), student)
    command = ["evaluate", str(student), "--data", str(digits_folder / "shards"), "--split", "val"]
    fault = (pair.stop_in_call, "transfer3d.evaluation.scoring", "gather_outputs", 1, hung)
    both = pair.start([*command, "--workers", "0"], output, fault)
    assert end_of_hung(both, hung) == 5
    assert is_named(said(output, 1 - hung), both[hung], hung)


def launched(digits_folder, out, **environment):
    """Two processes under torchrun that train for long, and the launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "transfer3d", *arguments("finetune", digits_folder / "shards", out)]
    with out.with_name("said").open("w") as file:
        launcher = subprocess.Popen(
            [*command, "--set", "max_steps=30000"], stdout=file, stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment},
        )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (out / "checkpoints" / "step-2").exists():
        assert launcher.poll() is None, out.with_name("said").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(launcher.pid).children()}
    assert sorted(ranks) == [0, 1]
    return launcher, ranks


def newest(out):
    return max(int(path.name.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("hung", [0, 1])
def test_under_a_launcher_everything_has_ended_within_two_minutes(digits_folder, tmp_path, hung):
    """By default; of the two minutes torchrun takes half a one, to kill the process that hangs."""
    out = tmp_path / "run"
    launcher, ranks = launched(digits_folder, out)
    ranks[hung].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    assert launcher.wait(180) != 0
    assert 60 < time.monotonic() - stopped < 120
    assert not any(rank.is_running() for rank in ranks.values())
    text = (tmp_path / "said").read_text()
    assert f"process {hung} (pid {ranks[hung].pid} on " in text
    assert "has not responded for 60 s" in text
    done = subprocess.run(
        [sys.executable, "-m", "transfer3d", "finetune", "-o", str(out), "--resume"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TRANSFER3D_HUNG_AFTER": "never"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "give 2 to 600 seconds" in done.stderr) == (2, True), done.stderr


def test_processes_save_and_end_when_their_launcher_is_killed(digits_folder, tmp_path):
    out = tmp_path / "run"
    launcher, ranks = launched(digits_folder, out)
    launcher.kill()
    launcher.wait()
    gone, alive = psutil.wait_procs(list(ranks.values()), 60)
    assert len(gone) == 2
    assert not alive
    text = (tmp_path / "said").read_text()
    assert f"the launcher (pid {launcher.pid}) has died" in text
    codes = [json.loads((out / f"exit.rank{rank}.json").read_text())["exit_code"] for rank in (0, 1)]
    assert codes == [75, 75], text
    step = int(re.findall(r"stopped at step (\d+) of \d+, which is saved", text)[0])
    assert step == newest(out)
