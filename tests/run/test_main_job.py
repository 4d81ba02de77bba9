"""The main job end to end on real encoded video: correspond, finetune, evaluate, predict."""

import csv
import io
import json

import pytest
import torch
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.engine.run_folder import RunFolder
from transfer3d.weights.metadata import read_metadata

TINY = ["--set", "max_steps=6", "--set", "batch_size=8", "--set", "log_every=1", "--workers", "0"]


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def work(tmp_path_factory, digits_folder):
    """One pass through all commands; the tests look at what it left."""
    root = tmp_path_factory.mktemp("job")
    teacher = root / "teacher.safetensors"
    from safetensors.torch import save_file

    from transfer3d.models.image import create_image_model

    save_file(create_image_model("test_resnet", "none", num_classes=10, seed=4).state_dict(), teacher)
    data = digits_folder / "shards"
    said = {
        "correspond": run(
            "correspond", "--recipe", "demo/tiny-correspond", "--weights", teacher, "--data", data,
            "-o", root / "taught", *TINY,
        ),
        "finetune": run(
            "finetune", root / "taught" / "model.safetensors", "--recipe", "demo/tiny-finetune",
            "--data", data, "-o", root / "tuned", *TINY,
        ),
        "evaluate": run(
            "evaluate", root / "tuned" / "model.safetensors", "--data", data, "--clips", 2,
            "-o", root / "report.json", "--workers", 0,
        ),
    }  # fmt: skip
    return root, data, said


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_correspondence_logs_the_three_accuracies(work):
    root, _, said = work
    rows = log(root / "taught")
    assert [row["step"] for row in rows] == list(range(1, 7))
    for row in rows:
        mean = (row["matched_accuracy"] + row["mismatched_accuracy"]) / 2
        assert row["balanced_accuracy"] == pytest.approx(mean)
    assert "chance 50 %" in said["correspond"]
    assert "6 steps of 8 clips" in said["correspond"]


def test_the_checkpoint_says_what_it_is_and_whence_it_came(work):
    root, _, _ = work
    taught = read_metadata(root / "taught" / "model.safetensors")
    assert taught.provenance["made_by"] == "correspond"
    assert taught.provenance["teacher"]["name"] == "test_resnet"
    assert (taught.num_classes, taught.clip.frames, taught.clip.size) == (0, 8, 32)
    tuned = read_metadata(root / "tuned" / "model.safetensors")
    parent = tuned.provenance["parent"]
    from transfer3d.files import sha256_file

    assert parent["sha256"] == sha256_file(root / "taught" / "model.safetensors")
    assert len(tuned.class_names or ()) == tuned.num_classes == 40


def test_finetuning_starts_from_the_taught_weights(work, tmp_path, digits_folder):
    root, data, _ = work
    out = tmp_path / "still"
    run("finetune", root / "taught" / "model.safetensors", "--recipe", "demo/tiny-finetune", "--data", data,
        "-o", out, *TINY, "--set", "max_steps=1", "--set", "lr=1e-12")  # fmt: skip
    before = transfer3d.load(root / "taught" / "model.safetensors").trunk.state_dict()
    after = transfer3d.load(out / "model.safetensors").trunk.state_dict()
    weights = [name for name in before if name.endswith("conv.weight")]
    assert weights
    assert all(torch.allclose(before[name], after[name]) for name in weights)


def test_the_evaluation_report_counts_every_video_once(work):
    root, _, said = work
    report = json.loads((root / "report.json").read_text())
    assert report["expected"] == report["scored"] == sum(map(sum, report["confusion"]))
    assert report["views"] == 2 * report["scored"]
    assert 0 <= report["video_top1"] <= report["video_top5"] <= 1
    assert len(report["per_class"]) == 40
    assert f"{report['video_top1']:.1%}" in said["evaluate"]


def test_the_validation_score_is_what_evaluate_says_of_the_val_split(work):
    root, data, _ = work
    row = [row for row in log(root / "tuned") if row["split"] == "val"][-1]
    text = run("evaluate", root / "tuned" / "model.safetensors", "--data", data, "--split", "val", "--json",
               "--workers", 0)  # fmt: skip
    report = json.loads(text[text.index("{") :])
    assert report["video_top1"] == pytest.approx(row["video_top1"])


def test_predict_prints_a_table_json_and_csv(work, digits_folder):
    root, _, _ = work
    checkpoint = root / "tuned" / "model.safetensors"
    videos = sorted((digits_folder / "videos" / "test").rglob("*.mp4"))[:2]
    text = run("predict", checkpoint, *videos, "--json", "--top", 3)
    rows = json.loads(text[text.index("[") :])
    assert len(rows) == 2
    assert [len(row["top"]) for row in rows] == [3, 3]
    assert all(row["top"][0]["score"] >= row["top"][1]["score"] for row in rows)
    text = run("predict", checkpoint, *videos, "--csv", "--top", 3)
    table = list(csv.reader(io.StringIO(text[text.index("video,") :])))
    assert len(table) == 7
    assert table[1][2] == rows[0]["top"][0]["class"]


def test_the_same_command_gives_the_same_weights(work, tmp_path):
    root, data, _ = work
    again = tmp_path / "again"
    run("finetune", root / "taught" / "model.safetensors", "--recipe", "demo/tiny-finetune", "--data", data,
        "-o", again, *TINY)  # fmt: skip
    first = transfer3d.load(root / "tuned" / "model.safetensors").state_dict()
    second = transfer3d.load(again / "model.safetensors").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_left_alone(work):
    root, data, _ = work
    before = (root / "tuned" / "model.safetensors").read_bytes()
    text = run("finetune", "--resume", "-o", root / "tuned", "--data", data)
    assert "nothing to do" in text
    assert (root / "tuned" / "model.safetensors").read_bytes() == before
    refused = CliRunner().invoke(
        app, ["finetune", "p3d_tiny", "--data", str(data), "-o", str(root / "tuned")]
    )
    assert refused.exit_code == 2
    assert "a finished run" in refused.output


def test_a_folder_in_use_is_refused(work, tmp_path):
    _, data, _ = work
    holder = RunFolder(tmp_path / "busy", resume=False)
    result = CliRunner().invoke(
        app, ["finetune", "p3d_tiny", "--data", str(data), "-o", str(tmp_path / "busy")]
    )
    holder.close()
    assert result.exit_code == 5
    assert "in use by pid" in result.output


def test_fewer_classes_are_found_by_name_and_other_ones_refused(work, tmp_path, digits_folder):
    root, _, _ = work
    import shutil

    few = tmp_path / "few"
    for name in ("7_up", "3_left"):
        shutil.copytree(digits_folder / "videos" / "test" / name, few / name)
    command = ["evaluate", str(root / "tuned" / "model.safetensors"), "--data", str(few), "--split", "train"]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    per_class = json.loads(result.stdout)["per_class"]
    assert len(per_class) == 40
    assert {name for name, value in per_class.items() if value is not None} == {"7_up", "3_left"}
    (few / "3_left").rename(few / "3_links")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 3, result.output
    assert "1 of the videos' 2 classes are not among the student's 40: 3_links" in result.output


def test_downstream_scripts(work, digits_folder, capsys):
    import runpy
    import sys
    from pathlib import Path

    root, _, _ = work
    tools = Path(__file__).parents[2] / "tools"
    checkpoint = str(root / "tuned" / "model.safetensors")
    video = str(next((digits_folder / "videos" / "test").rglob("*.mp4")))
    for script, arguments, lines in (
        ("classify_video.py", [checkpoint, video], 3),
        ("load_with_safetensors.py", [checkpoint], 1),
    ):
        sys.argv, before = [script, *arguments], sys.argv
        try:
            runpy.run_path(str(tools / script), run_name="__main__")
        finally:
            sys.argv = before
        assert len(capsys.readouterr().out.strip().splitlines()) == lines


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (["clip.size=32", "clip.crop=16"], 2, "crop=16 is smaller than size=32"),
        (["batch_size=1"], 2, "needs at least two clips"),
        (["dropout=high"], 2, "'high'"),
        (["student_args.depth=3"], 2, "no argument 'depth'"),
    ],
)
def test_values_that_cannot_work_are_named(work, tmp_path, settings, code, said):
    _, data, _ = work
    given = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(
        app, ["finetune", "p3d_tiny", "--data", str(data), "-o", str(tmp_path / "run"), *given]
    )
    assert result.exit_code == code, result.output
    assert said in result.output


def test_one_video_is_too_few(tmp_path, digits_folder):
    import shutil

    video = next((digits_folder / "videos" / "test").rglob("*.mp4"))
    (tmp_path / "data").mkdir()
    shutil.copy(video, tmp_path / "data")
    data, out = str(tmp_path / "data"), str(tmp_path / "run")
    arguments = ["correspond", "--teacher", "test_resnet", "--weights", "none", "--data", data, "-o", out]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3, result.output
    assert "at least two" in result.output
