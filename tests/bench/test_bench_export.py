"""`transfer3d bench export`: what is compared gives the same logits, and what is missing is said."""

import json

import pytest
from typer.testing import CliRunner

from transfer3d.cli.main import app


def rows_of(*arguments):
    done = CliRunner().invoke(app, ["bench", "export", "--student", "p3d_tiny", "--pairs", "1", *arguments])
    assert done.exit_code == 0, done.output
    return {row["ours"]: row for row in json.loads(done.stdout)["results"]}


@pytest.mark.slow
def test_onnxruntime_against_torch():
    rows = rows_of("--json")
    assert rows["onnxruntime, fp32"]["difference"] < 1e-4
    assert rows["torch, fused, bf16"]["difference"] < 0.1
    assert rows["onnxruntime, dynamic int8"]["ratio"] > 0
    for name in ("openvino, fp32", "openvino, the CPU's precision", "openvino, int8"):
        if rows[name]["skipped"]:
            assert "pip install 'transfer3d[openvino]'" in rows[name]["skipped"]


@pytest.mark.slow
def test_openvino_against_torch():
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    pytest.importorskip("nncf", reason="the extra `openvino` is not installed")
    rows = rows_of("--json")
    assert rows["openvino, fp32"]["difference"] < 1e-4
    assert rows["openvino, int8"]["difference"] < 0.5


def test_an_unknown_student_is_refused():
    done = CliRunner().invoke(app, ["bench", "export", "--student", "p3d_tiy"])
    assert done.exit_code == 2
    assert "p3d_tiny" in done.output
