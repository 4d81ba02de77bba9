"""The bench: baselines that compute the same, pairs that are fair, memory that is measured."""

import json
import os
import time
from functools import partial

import pytest
import torch
from typer.testing import CliRunner

from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.case import Case, Comparison, run_cases
from transfer3d.bench.memory import peak_bytes
from transfer3d.bench.paired import paired_ratio
from transfer3d.bench.subprocess_runner import SubprocessRunner
from transfer3d.cli.main import app
from transfer3d.errors import SetupError
from transfer3d.models.combinations import combination_scores
from transfer3d.models.factory import create_model
from transfer3d.models.trunks.trunk import run
from transfer3d.nn.conv4d import conv4d

CPU = torch.device("cpu")
MIB = 2**20


@pytest.mark.parametrize("kernel", [(3, 3, 1, 1), (3, 3, 3, 3), (3, 1, 1, 1)])
def test_the_loop_is_a_4d_convolution(kernel):
    video, weight = torch.randn(2, 3, 4, 3, 5, 5).double(), torch.randn(4, 3, *kernel).double()
    actual = load_baseline("conv4d_loop").conv4d_loop(video, weight)
    torch.testing.assert_close(actual, conv4d(video, weight), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "file", "plain"),
    [
        ("p3d63", "p3d_plain", "PlainP3D63"),
        ("densenet3d_densenet121", "densenet3d_plain", "PlainDenseNet3D121"),
    ],
)
def test_the_plain_networks_are_the_students(name, file, plain):
    student = create_model(name, num_classes=5).eval()
    plain = getattr(load_baseline(file), plain)(5).eval()
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    values = student.state_dict().values()
    plain.load_state_dict(dict(zip(plain.state_dict(), values, strict=True)), strict=True)
    clips = torch.randn(1, 3, 16, 32, 32)
    with torch.no_grad():
        expected = student(clips)
        assert (plain(clips) - expected).norm() <= 1e-5 * expected.norm()


def test_the_loop_over_combinations_is_algorithm_1():
    student = create_model("v4d_tiny", num_classes=5).eval()
    torch.nn.init.ones_(student.trunk.get_submodule("res3.after0.scale").weight)
    units = torch.randn(6, 3, 2, 32, 32)
    steps = student.trunk.steps()
    first = [name for name, _ in steps].index("res3.after0")
    scores = load_baseline("combinations_loop").combinations_loop(
        lambda units: run(units, steps[:first]),
        lambda maps: student.forward_head(run(maps, steps[first:], 4).transpose(0, 1).flatten(1, 2)[None]),
        units,
        4,
    )
    torch.testing.assert_close(scores, combination_scores(student, units[None]))


def test_pairs_are_timed_in_turn_and_compared():
    order = []

    def sleeper(name, seconds):
        def sleep():
            order.append(name)
            time.sleep(seconds)

        return sleep

    paired = paired_ratio(sleeper("ours", 0.01), sleeper("theirs", 0.04), pairs=4)
    assert order == ["ours", "theirs"] + ["ours", "theirs", "theirs", "ours"] * 2
    assert 3 < paired.ratio < 5
    assert paired.ours_s == pytest.approx(0.01, rel=0.3)
    assert paired.baseline_s == pytest.approx(0.04, rel=0.3)


def test_peak_memory_is_that_of_the_run_and_not_of_one_before():
    big, small = (lambda: torch.ones(200 * MIB // 4).sum()), (lambda: torch.ones(50 * MIB // 4).sum())
    taken = [peak_bytes(run, CPU) for run in (big, small)]
    if None in taken:
        pytest.skip("this system does not say how much memory a process took")
    assert taken[0] == pytest.approx(200 * MIB, rel=0.1)
    assert taken[1] == pytest.approx(50 * MIB, rel=0.2)


@pytest.mark.slow
def test_a_contestant_apart_runs_in_a_process_of_its_own_with_as_many_threads():
    other = SubprocessRunner(partial, os.getpid)
    assert other() == other() != os.getpid()
    assert SubprocessRunner(partial, torch.get_num_threads)() == torch.get_num_threads()
    made = SubprocessRunner(partial, torch.ones, 50 * MIB // 4).peak_bytes()
    assert made is None or made == pytest.approx(50 * MIB, rel=0.2)
    with pytest.raises(SetupError, match="baseline's process ended"):
        SubprocessRunner(partial, os._exit, 3)()


def test_what_the_machine_cannot_do_is_skipped_with_its_reason():
    def impossible(device):
        raise SetupError("no compiler")

    def possible(device):
        return Comparison(ours=lambda: None, baseline=lambda: None, difference=lambda: 0.25)

    fields = {"name": "n", "phase": "forward", "ours": "o", "baseline": "b", "at_least": 2.0}
    cases = [Case(**fields, build=build) for build in (impossible, possible)]
    skipped, done = run_cases(cases, CPU, pairs=1)
    assert skipped.skipped == "no compiler"
    assert skipped.ratio is None
    assert done.ratio > 0
    assert done.difference == 0.25


@pytest.mark.slow
def test_command_prints_what_it_measured():
    threads = torch.get_num_threads()
    arguments = ["bench", "models", "--only", "3x3x1x1, 256", "--pairs", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--json", "--threads", "1"])
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["machine"]["threads"] == 1
    assert len(report["results"]) == 4
    for result in report["results"]:
        assert result["ratio"] > 0
        assert result["difference"] < 1e-5
        assert result["ours_ms"] > 0


@pytest.mark.parametrize(
    "arguments, message", [(["--only", "resnext"], "no case"), (["--device", "tpu"], "cpu, cuda or auto")]
)
def test_wrong_options_are_answered(arguments, message):
    done = CliRunner().invoke(app, ["bench", "models", *arguments])
    assert done.exit_code == 2
    assert message in done.output
