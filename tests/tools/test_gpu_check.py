"""tools/gpu_check.sh: a sentence where there is no GPU, and all of its file in a rehearsal on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from transfer3d.models.costs import read_costs

pytestmark = pytest.mark.proc
SCRIPT = Path(__file__).parents[2] / "tools" / "gpu_check.sh"


def check(*arguments):
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=280,
    )  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path):
    done = check("-o", tmp_path / "g.json")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error: torch finds no usable GPU.")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rehearsal_fills_the_file(tmp_path):
    done = check("-o", tmp_path / "g.json", "--rehearse")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "g.json").read_text())
    assert "unfinished" not in json.dumps(found)
    assert found["tests"]["tests"] > 10
    assert found["tests"]["failures"] == found["tests"]["errors"] == 0
    steps = found["p3d_tiny"]["steps"]
    assert [step["ours"] for step in steps] == ["bf16", "bf16, 2D convolutions"]
    forward = 2 * 2 * read_costs()["p3d_tiny"].gmac / 1000  # TFLOP of two clips
    for step in steps:
        work = step["share_of_peak"] * found["p3d_tiny"]["tflops"] * step["ours_ms"] / 1000
        assert work == pytest.approx(3 * forward, rel=0.03)  # a pass forward, two back; the cost is rounded
        assert step["share_of_roofline"] > 0
    trainings = [found[name] for name in found if name.startswith("training")]
    assert len(trainings) == 4
    assert all(training["clips_per_second"] > 0 for training in trainings)
    losses = [training["loss"] for training in trainings]
    assert max(losses) - min(losses) < 0.05  # another rounding in bf16, and nothing else


def test_it_ends_in_time_and_says_what_is_missing(tmp_path):
    done = check("-o", tmp_path / "g.json", "--rehearse", "--limit-s", "0")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "g.json").read_text())
    assert found["tests"] == {"unfinished": "no time was left"}
