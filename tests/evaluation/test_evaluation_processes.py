"""Every protocol from two processes: the report and the scores of one."""

import json

import pair
import pytest
import torch
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.evaluation.protocols import PROTOCOLS
from transfer3d.evaluation.scores import load_scores

STUDENTS = {"v4d": "v4d_tiny", "f4d": "f4d_tiny"}
FAST = ("p3d",)


@pytest.mark.proc
@pytest.mark.parametrize(
    "protocol", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in PROTOCOLS]
)
def test_one_and_two_processes_give_the_same_numbers(protocol, digits_folder, tmp_path):
    names = [f"{digit}_{way}" for digit in range(10) for way in ("down", "left", "right", "up")]
    student = transfer3d.create_model(STUDENTS.get(protocol, "p3d_tiny"), num_classes=40, seed=1)
    # Scores so far apart that rounding does not decide.
    student.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    transfer3d.save(student, tmp_path / "student.safetensors", class_names=names)
    arguments = ["evaluate", str(tmp_path / "student.safetensors"), "--data", str(digits_folder / "shards")]
    arguments += ["--protocol", protocol, "--split", "val", "--workers", "0", "--precision", "fp32", "-o"]
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    done = CliRunner().invoke(app, [*arguments, str(one)])
    assert done.exit_code == 0, done.output
    said = tmp_path / "said"
    assert pair.end(pair.start([*arguments, str(two)], said)) == [0, 0], (tmp_path / "said.0").read_text()
    assert json.loads(one.read_text()) == json.loads(two.read_text())
    (first, _), (second, _) = load_scores(one), load_scores(two)
    assert first.keys == second.keys
    torch.testing.assert_close(torch.cat(first.views_VK), torch.cat(second.views_VK))
