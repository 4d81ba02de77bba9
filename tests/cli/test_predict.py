"""`transfer3d predict`: tables, JSON, CSV and pictures of videos and of timelines, and what it refuses."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from media import encode, write_numbered
from PIL import Image
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app

NAMES = ["walk", "run", "jump"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, a folder of two videos and a text, a damaged one; 4 and 2 seconds."""
    root = tmp_path_factory.mktemp("predict")
    student = transfer3d.create_model("p3d_tiny", num_classes=3, seed=1)
    student.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    transfer3d.save(student, root / "student.safetensors", class_names=NAMES)
    write_numbered(root / "videos" / "a.mp4", 100)
    write_numbered(root / "videos" / "deeper" / "b.mp4", 50)
    (root / "videos" / "notes.mp4").write_text("no video")
    (root / "empty").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)
    data = bytearray(encode(noise))
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(6000)
    (root / "damaged.mp4").write_bytes(data)
    return root


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def predict(*arguments):
        return CliRunner().invoke(app, ["predict", "student.safetensors", *map(str, arguments)])

    return predict


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_json_csv_and_table_say_the_same_of_files_and_folders(run):
    done = run("videos", "videos/a.mp4", "--json", "--precision", "fp32")
    found = json.loads(done.stdout)
    assert [row["video"] for row in found] == ["videos/a.mp4", "videos/deeper/b.mp4"]
    assert "left out videos/notes.mp4" in done.stderr
    table = rows_of(run("videos", "--csv", "--precision", "fp32").stdout)
    flat = [(row["video"], guess["class"], f"{guess['score']:.6f}") for row in found for guess in row["top"]]
    assert [(row["video"], row["class"], row["score"]) for row in table] == flat
    assert [row["rank"] for row in table] == ["1", "2", "3"] * 2
    shown = run("videos", "--precision", "fp32").stdout.split()
    assert shown[:3] == ["video", "class", "score"]
    assert shown.count("videos/a.mp4") == 1
    assert shown[3:6] == ["videos/a.mp4", flat[0][1], f"{float(flat[0][2]):.1%}"]


def test_a_timeline_as_json_csv_and_table(run):
    options = ["--timeline", "--window", 1, "--stride", 0.5, "--precision", "fp32"]
    (video,) = json.loads(run("videos/a.mp4", *options, "--json", "--top", 2).stdout)
    assert [(w["start"], w["end"]) for w in video["windows"]] == [(n / 2, n / 2 + 1) for n in range(7)]
    assert all(w["top"][0]["score"] >= w["top"][1]["score"] for w in video["windows"])
    table = rows_of(run("videos/a.mp4", *options, "--csv").stdout)
    assert list(table[0]) == ["video", "time_start", "time_end", "class", "score"]
    assert [(row["time_start"], row["class"]) for row in table] == [
        (f"{w['start']:.3f}", w["top"][0]["class"]) for w in video["windows"]
    ]
    shown = run("videos/a.mp4", *options).stdout
    assert "0.5 - 1.5" in shown
    assert shown.count("videos/a.mp4") == 1


@pytest.mark.parametrize("name", ["line.png", "line.svg"])
def test_a_picture_is_drawn(run, tmp_path, name):
    done = run("videos/a.mp4", "--timeline", "--plot", tmp_path / name)
    assert done.exit_code == 0, done.output
    if name.endswith("png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 800
    else:
        assert (tmp_path / name).read_text().startswith("<svg")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.mp4"], 2, "nowhere.mp4 does not exist"),
        (["videos/notes.mp4"], 3, "notes.mp4"),
        (["empty"], 3, "empty: no videos"),
        (["damaged.mp4"], 3, "damaged.mp4"),
        (["videos", "--window", "2"], 2, "need --timeline"),
        (["videos/a.mp4", "--timeline", "--window", "0"], 2, "--window 0.0"),
        (["videos/a.mp4", "--timeline", "--stride", "nan"], 2, "--stride nan"),
        (["videos/a.mp4", "--json", "--csv"], 2, "choose one"),
        (["videos", "--timeline", "--plot", "line.png"], 2, "supports one video, not 2"),
        (["videos/a.mp4", "--timeline", "--plot", "line.jpg"], 2, "pictures are .png or .svg"),
        (["videos/a.mp4", "--timeline", "--plot", "student.safetensors/x.png"], 5, "is a file"),
        (["videos/a.mp4", "--timeline", "--precision", "fp16"], 2, "fp16"),
        (["damaged.mp4", "--timeline", "--plot", "line.png"], 3, "damaged.mp4"),
    ],
)
def test_what_is_refused(run, folder, arguments, code, said):
    before = sorted(folder.rglob("*"))
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert sorted(folder.rglob("*")) == before


def test_names_in_brackets_are_names_and_no_markup(run, folder, tmp_path):
    for name in ("holiday [dQw4w9WgXcQ].mp4", "[.mp4", "[red]x[/green].mp4"):
        path = tmp_path / "[" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((folder / "videos" / "a.mp4").read_bytes())
        for arguments in ([path], [path, "--timeline", "--window", "2"]):
            done = run(*arguments)
            assert done.exit_code == 0, done.output
            assert name in done.stdout


@pytest.mark.parametrize("command", ["predict", "evaluate", "cam"])
@pytest.mark.parametrize(
    "channels, message",
    [
        (1, "takes 1 channels, videos have 3 (RGB) or 2 (optical flow)"),
        (2, ("takes optical flow but does not record how", "takes 2 channels, the videos are RGB")),
    ],
    ids=["grey", "flow"],
)
def test_a_student_of_other_channels_is_refused_by_every_command(
    folder, digits_folder, tmp_path, command, channels, message
):
    student = transfer3d.create_model("p3d_tiny", num_classes=3, in_chans=channels)
    transfer3d.save(student, tmp_path / "two.safetensors", class_names=NAMES)
    data = ["--data", digits_folder / "shards"] if command == "evaluate" else [folder / "videos" / "a.mp4"]
    done = CliRunner().invoke(app, [command, str(tmp_path / "two.safetensors"), *map(str, data)])
    assert done.exit_code == 2, done.output
    if isinstance(message, tuple):
        message = message[command == "evaluate"]
    assert message in " ".join(done.output.split())
