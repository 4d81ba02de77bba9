"""`transfer3d cam` on real videos: one row and two pictures for each, refusals in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from media import encode
from PIL import Image
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data.clips import clip_of_file
from transfer3d.data.decode import Video
from transfer3d.nn.pixels import normalise
from transfer3d.run.inference.cam import picture_names


@pytest.fixture
def place(tmp_path):
    """A checkpoint, two videos of one name in class folders, and one of no class."""
    student = transfer3d.create_model("p3d_tiny", num_classes=2, seed=1)
    transfer3d.save(student, tmp_path / "s.safetensors", class_names=["run", "walk"])
    rng = np.random.default_rng(0)
    for folder in ("run", "walk", "other"):
        (tmp_path / folder).mkdir()
        noise = rng.integers(0, 256, (8, 32, 32, 3), np.uint8)
        (tmp_path / folder / "a.mp4").write_bytes(encode(noise))
    return tmp_path


def command(*arguments):
    return CliRunner().invoke(app, ["cam", *map(str, arguments)])


def test_every_video_has_a_row_and_two_pictures(place):
    videos = [place / folder / "a.mp4" for folder in ("run", "walk", "other")]
    done = command(place / "s.safetensors", *videos, "-o", place / "out", "--class", "walk", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["true"] for row in rows] == ["run", "walk", None]
    assert [row["video"] for row in rows] == [str(video) for video in videos]
    student = transfer3d.load(place / "s.safetensors")
    for row in rows:
        clip = normalise(clip_of_file(row["video"], student.clip)[None], student.clip.mean, student.clip.std)
        with torch.no_grad():
            scores = student(clip)[0].softmax(-1)
        assert row["class_score"] == pytest.approx(scores[1].item(), rel=1e-4)
        assert row["predicted"] == ["run", "walk"][int(scores.argmax())]
        assert (row["class"], row["maps"]) == ("walk", [2, 4, 4])
        assert Image.open(row["strip"]).size[0] > 800
        with Image.open(row["film"]) as film:
            assert film.n_frames == 8
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        "a-2.gif", "a-2.png", "a-3.gif", "a-3.png", "a.gif", "a.png",
    ]  # fmt: skip


def test_mp4_and_the_classifiers_own_map(place):
    options = ("-o", place / "out", "--format", "mp4", "--method", "classifier")
    done = command(place / "s.safetensors", place / "run", *options)
    assert done.exit_code == 0, done.output
    assert "classifier, last 1x1x1" in done.stdout
    warned = "maps of 1x1x1 have no resolution in space or time: leave --method out"
    assert warned in " ".join(done.stdout.split())
    assert "apart" not in command(place / "s.safetensors", place / "run", "-o", place / "finer").stdout
    with Video(place / "out" / "a.mp4") as video:
        assert video.frames == 8


def test_mp4_of_a_student_of_action_units_and_of_a_video_that_is_too_short(place):
    student = transfer3d.create_model("v4d_tiny", num_classes=2, seed=1)
    transfer3d.save(student, place / "v.safetensors", class_names=["run", "walk"])
    span = student.clip.units * student.clip.window
    for frames, windows in ((2 * span + 3, 3), (3, 1)):
        noise = np.random.default_rng(1).integers(0, 256, (frames, 32, 32, 3), np.uint8)
        (place / "long.mp4").write_bytes(encode(noise))
        options = ("--format", "mp4", "-o", place / "units", "--json")
        done = command(place / "v.safetensors", place / "long.mp4", *options)
        assert done.exit_code == 0, done.output
        (row,) = json.loads(done.stdout)
        assert len(row["windows"]) == windows
        with Video(Path(row["film"])) as video:
            assert video.frames == frames


def test_two_networks_beside_each_other(place):
    """V4D, figures 3 and 4: frames, one network's heat, the other's."""
    other = transfer3d.create_model("i3ds_tiny", num_classes=3, seed=2)
    transfer3d.save(other, place / "o.safetensors", class_names=["walk", "jump", "run"])
    alone = json.loads(command(place / "o.safetensors", place / "run", "-o", place / "1", "--json").stdout)[0]
    beside = ("--beside", place / "o.safetensors", "-o", place / "2")
    done = command(place / "s.safetensors", place / "run", *beside, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert {key: alone[key] for key in row["beside"]} == row["beside"]
    assert Image.open(row["strip"]).size[1] > Image.open(alone["strip"]).size[1] + 80  # one row more
    with Image.open(row["film"]) as film, Image.open(alone["film"]) as single:
        assert film.size[0] > single.size[0] + 100  # one column more
    named = command(place / "s.safetensors", place / "run", *beside, "--class", "walk", "--json")
    (row,) = json.loads(named.stdout)
    assert (row["class"], row["beside"]["class"]) == ("walk", "walk")
    v4d = transfer3d.create_model("v4d_tiny", num_classes=2)
    transfer3d.save(v4d, place / "v.safetensors")
    refused = command(place / "s.safetensors", place / "run", "--beside", place / "v.safetensors")
    assert refused.exit_code == 2
    assert "takes other clips" in refused.stderr
    flow = transfer3d.create_model("p3d_tiny", num_classes=2, in_chans=2)
    transfer3d.save(flow, place / "f.safetensors")
    mixed = command(place / "s.safetensors", place / "run", "--beside", place / "f.safetensors")
    assert mixed.exit_code == 2
    assert "only one is for optical flow. Compare two students of a kind" in " ".join(mixed.stderr.split())


def test_it_says_when_nothing_speaks_for_a_class(place):
    student = transfer3d.load(place / "s.safetensors")
    with torch.no_grad():
        student.head.weight[1] = -student.head.weight[1].abs()  # features after a ReLU only speak against it
    transfer3d.save(student, place / "mute.safetensors")
    options = ("--class", "walk", "--method", "classifier", "-o", place / "out")
    done = command(place / "mute.safetensors", place / "run", *options)
    assert done.exit_code == 0, done.output
    assert "the clip has no evidence for walk, so the heat map is empty" in " ".join(done.stdout.split())
    other = command(
        place / "mute.safetensors", place / "run", "--class", "run", "-o", place / "out", "--json"
    )
    assert json.loads(other.stdout)[0]["speaks"] is True


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--class", "wallk"], 2, "did you mean 'walk'"),
        (["--layer", "res6"], 2, "has no layer 'res6'"),
        (["--method", "classifier", "--layer", "res4"], 2, "Use --method gradcam"),
        (["-o", "s.safetensors"], 2, "s.safetensors is a file"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(place, options, code, said, monkeypatch):
    monkeypatch.chdir(place)
    done = command("s.safetensors", "run/a.mp4", *options)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert not list(place.rglob("*.png"))


def test_names_are_the_videos_own_and_each_is_taken_once():
    assert picture_names(["x/a.mp4", "y/a.avi", "y/b.mp4", "z/a-2.mp4"]) == ["a", "a-2", "b", "a-2-2"]
