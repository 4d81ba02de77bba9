"""Real clips in five formats, and bad files among them."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def with_bad_files(tmp_path_factory, clips_folder):
    """The real clips, and one file that is empty, one truncated and one of text."""
    folder = tmp_path_factory.mktemp("clips") / "with a space & ünïcode"
    folder.mkdir()
    for path in clips_folder.iterdir():
        shutil.copy(path, folder)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.avi").write_text("this is not a video\n")
    whole = (folder / "mmaction2_demo.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory, with_bad_files):
    out = tmp_path_factory.mktemp("run") / "taught"
    result = run(
        "correspond", "--teacher", "test_resnet", "--weights", "none", "--data", with_bad_files,
        "--set", "max_steps=5", "--workers", 1, "-o", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out, result.output


def test_correspondence_runs_on_real_clips_and_names_the_bad_ones(taught):
    _, said = taught
    assert "student p3d_tiny" in said.splitlines()[0]
    assert "9 videos" in said
    for name in ("empty.mp4", "text.avi", "truncated.mp4"):
        assert any(line.startswith("left out") and name in line for line in said.splitlines()), said
    assert "5 steps of 8 clips" in said  # the largest power of two below nine different videos
    assert "free memory" in said


def test_the_taught_student_has_no_classifier_and_predict_says_so(taught, with_bad_files):
    out, _ = taught
    result = run("predict", out / "model.safetensors", with_bad_files)
    assert result.exit_code == 4
    assert "has no classifier" in result.output


def test_predict_looks_at_every_real_clip(tmp_path, with_bad_files):
    checkpoint = tmp_path / "student.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=4, seed=1), checkpoint)
    result = run("predict", checkpoint, with_bad_files, "--json", "--top", 2)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert len(rows) == 9
    assert all(sum(guess["score"] for guess in row["top"]) <= 1.0001 for row in rows)


def test_a_folder_of_bad_files_only_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.mp4").write_text("no")
    result = run(
        "correspond", "--teacher", "test_resnet", "--weights", "none", "--data", tmp_path / "data",
        "-o", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 3
    assert "text.mp4" in result.output
    assert not list(tmp_path.rglob("*.safetensors"))
