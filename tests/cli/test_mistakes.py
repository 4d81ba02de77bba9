"""Command lines that people type by mistake: each answer names what was meant."""

import re
import shutil

import pytest
from media import write_numbered
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a checkpoint, a folder of videos and a finished run."""
    root = tmp_path_factory.mktemp("place")
    for name in ("jump/1", "jump/2", "wave/1", "wave/2"):
        write_numbered(root / "my_videos" / f"{name}.mp4", 12)
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=2), root / "student.safetensors")
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=0), root / "bare.safetensors")
    command = ["finetune", "p3d_tiny", "--data", str(root / "my_videos"), "-o", str(root / "run")]
    options = ["--steps", "2", "--batch-size", "4", "--lr", "0.1", "--workers", "0"]
    done = CliRunner().invoke(app, [*command, *options, "--recipe", "demo/tiny-finetune"])
    assert done.exit_code == 0, done.output
    assert "2 steps of 4 clips" in done.output
    return root


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("finetune p3d_tiny --max-steps 3", 2, "a key of the recipe: --set max_steps=..."),
        ("finetune p3d_tiny --flip false", 2, "a key of the recipe: --set augment.flip=..."),
        ("correspond --momentum 0.5", 2, "a key of the recipe: --set optimizer.momentum=..."),
        ("finetune p3d_tiny my_videos", 2, "Videos are given with --data my_videos"),
        ("correspond my_videos", 2, "Videos are given with --data my_videos"),
        ("finetune my_videos p3d_tiny", 2, "transfer3d finetune p3d_tiny --data my_videos"),
        ("features student.safetensors my_videos", 2, "features student.safetensors --data my_videos"),
        ("features my_videos student.safetensors -o run", 2, "student.safetensors -o run --data my_videos"),
        ("order student.safetensors my_videos", 2, "Missing option '--data'. Videos are given with"),
        ("--debug order my_videos run", 2, "transfer3d order run --data my_videos"),
        ("order student.safetensors", 2, "Missing option '--data'"),
        ("finetune my_videos", 2, "my_videos is a folder of videos. Give videos with --data."),
        ("finetune my_vidoes/", 2, "my_vidoes/ does not exist (did you mean 'my_videos'?)"),
        ("finetune studnet.safetensors --data my_videos", 4, "(did you mean 'student.safetensors'?)"),
        ("predict my_videos/jump/1.mp4 student.safetensors", 2, "is a video. Give the checkpoint first"),
        ("predict my_videos student.safetensors", 2, "is a folder of videos. Give the checkpoint first"),
        ("cam my_videos/jump/1.mp4 student.safetensors", 2, "is a video. Give the checkpoint first"),
        ("evaluate student.safetensors my_videos", 2, "--data my_videos"),
        ("evaluate my_videos student.safetensors", 2, "evaluate student.safetensors --data my_videos"),
        ("evaluate student.safetensors --data my_vidoes", 2, "did you mean 'my_videos'?"),
        ("evaluate bare.safetensors --data my_videos", 4, "has no classifier. Train one with `transfer3d"),
        ("report student.safetensors", 2, "student.safetensors is a file. Name a run folder"),
        ("report rum", 2, "rum does not exist (did you mean 'run'?)"),
        ("finetune p3d_tiny --data my_videos -o run", 2, "To train on, start from run/model.safetensors"),
        ("finetune p3d_tiny --data my_videos -o run --resume", 0, "To train on, start from run/model"),
        ("check my_vidoes", 2, "did you mean 'my_videos'?"),
        ("shard my_videos/jump/1.mp4 -o shards", 2, "folder of the videos: `transfer3d shard my_v"),
        ("shard my_vidoes -o shards", 2, "did you mean 'my_videos'?"),
    ],
)  # fmt: skip
def test_the_mistake_is_named(command, code, said, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, command.split(), env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    answer = " ".join(done.output.replace("│", " ").split())
    assert said in answer, answer
    assert done.exit_code == code


def test_steps_are_exactly_those_and_epochs_may_end_first(place, tmp_path):
    command = ["finetune", "p3d_tiny", "--data", str(place / "my_videos"), "--workers", "0"]
    command += [
        "--set",
        "clip.stride=4",
        "--set",
        "max_steps=50",
        "--epochs",
        "2",
        "--batch-size",
        "2",
        "-o",
        str(tmp_path / "a"),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    answer = " ".join(done.output.split())
    assert "4 steps of 2 clips" in answer
    assert "epochs=2 ends after 4 steps, before max_steps=50; to get there, add --epochs 25" in answer
    assert re.search(r"4 of 4 videos are shorter than the \d+ frames that a clip of \d+ at stride", answer)
    rows = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) >= 4  # every step of a short run


def test_a_disk_that_is_too_small_is_said_before_training(place, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    command = ["finetune", "p3d_tiny", "--data", str(place / "my_videos"), "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*command, "--steps", "2", "--batch-size", "4", "--workers", "0"])
    assert done.exit_code == 5, done.output
    assert "checkpoints and models need" in done.output
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_evaluate_names_its_files_and_the_worst_class(place, tmp_path):
    command = ["evaluate", str(place / "student.safetensors"), "--data", str(place / "my_videos")]
    command += ["--split", "train", "--workers", "0", "-o", str(tmp_path / "r.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "worst class" in done.output
    assert "top5" not in done.output
    assert f"wrote {tmp_path / 'r.json'}" in done.output.replace("\n", "")
