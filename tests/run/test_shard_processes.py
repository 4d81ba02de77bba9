"""Real processes share the sharding, or are killed on the way: the shards are those of one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest
from miniatures import video
from typer.testing import CliRunner

from transfer3d.cli.main import app

pytestmark = pytest.mark.proc
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    for i in range(8):
        video(root / "ab"[i % 2] / f"{i}.mp4")
    return root


def arguments(dataset, out):
    return ["shard", str(dataset), "-o", str(out), "--name", "mini", "--per-shard", "3"]


@pytest.fixture(scope="module")
def expected(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected") / "out"
    assert CliRunner().invoke(app, arguments(dataset, out)).exit_code == 0
    return contents(out)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_two_processes_write_what_one_writes(dataset, expected, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "transfer3d", *arguments(dataset, tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("8 of 8 train videos, 2 classes, from folders") == 1
    assert sum(name.endswith(".tar") for name in expected) == 3
    assert contents(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(3))
def test_kill_9_at_a_shard_and_the_same_command_again(dataset, expected, tmp_path, shard):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "transfer3d", *arguments(dataset, out)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / f"mini-train-{shard:06d}.tar").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120)
    assert again.returncode == 0, again.stderr
    assert contents(out) == expected
