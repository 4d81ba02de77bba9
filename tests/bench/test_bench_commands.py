"""`transfer3d bench commands`: whole commands, and a plain script with the same work as `predict`."""

import json
import sys

import pytest
from media import write_numbered
from typer.testing import CliRunner

import transfer3d
from transfer3d.bench import commands
from transfer3d.bench.baselines import load_baseline
from transfer3d.bench.commands import Command
from transfer3d.cli.main import app
from transfer3d.errors import SetupError


@pytest.mark.proc
def test_a_command_that_fails_is_no_measurement():
    Command("-c", "raise SystemExit(4)", code=4)()
    with pytest.raises(SetupError, match=r"ended with 3: no such thing"):
        Command("-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)")()


def test_the_plain_script_sees_the_clip_that_predict_sees(tmp_path, monkeypatch, capsys):
    student = transfer3d.create_model("p3d_tiny", num_classes=3)
    transfer3d.save(student, tmp_path / "net.safetensors")
    write_numbered(tmp_path / "a.mp4", 30)
    script = load_baseline("predict_plain")
    monkeypatch.setattr(sys, "argv", ["plain", str(tmp_path / "net.safetensors"), str(tmp_path / "a.mp4")])
    script.main()
    best, score = capsys.readouterr().out.split()
    (seen,) = transfer3d.predict(student, [tmp_path / "a.mp4"], top=1, clips=1, precision="fp32")
    assert seen.classes == [f"class {best}"]
    assert seen.probabilities == pytest.approx([float(score)], abs=2e-3)


@pytest.mark.slow
def test_the_table_of_predict(monkeypatch):
    monkeypatch.setattr(commands, "STUDENT", "p3d_tiny")
    done = CliRunner().invoke(app, ["bench", "commands", "--only", "predict p3d", "--pairs", "1", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["results"]
    assert [row["baseline"] for row in rows] == [*commands.PARTS.values()]
    assert all(row["ratio"] > 0 and row["ours_mib"] is None for row in rows)
