"""A student of optical flow trains, is tested, predicts and is fused like any other; and it sees motion."""

import json
import shutil

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data.moving_digits import SynthConfig, synthesise
from transfer3d.errors import UsageError
from transfer3d.evaluation.scores import load_scores

SMALL = [
    "--set", "max_steps=2", "--set", "batch_size=4", "--set", "clip.frames=4", "--set", "clip.size=32",
    "--set", "workers=0", "--precision", "fp32",
]  # fmt: skip
FLOW = ["--set", "student_args.in_chans=2"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def passed(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done


def refused(*arguments):
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def work(digits_folder, tmp_path_factory):
    """Videos of two classes, shards of their frames and of their flow, and a student of each."""
    root = tmp_path_factory.mktemp("flow")
    for split in ("train", "test"):
        for name in ("3_left", "7_up"):
            shutil.copytree(digits_folder / "videos" / split / name, root / "videos" / split / name)
    passed("shard", root / "videos", "-o", root / "rgb")
    passed("shard", root / "videos", "-o", root / "flow", "--flow", "dis", "--short-side", 40)
    passed("finetune", "p3d_tiny", "--data", root / "rgb", "-o", root / "of_rgb", *SMALL)
    passed("finetune", "p3d_tiny", "--data", root / "flow", "-o", root / "of_flow", *SMALL, *FLOW)
    return root


def test_the_checkpoint_says_what_it_sees(work):
    student = transfer3d.load(work / "of_flow" / "model.safetensors")
    assert (student.clip.mean, student.clip.std) == ((0.5, 0.5), (0.226, 0.226))
    metadata = json.loads(passed("info", work / "of_flow" / "model.safetensors", "--json").stdout)
    assert metadata["provenance"]["flow"] == {"algorithm": "dis", "bound": 20.0, "short_side": 40}
    assert (work / "of_flow" / "report.html").exists()


def test_frames_and_flow_are_fused(work):
    for kind in ("rgb", "flow"):
        passed(
            "evaluate", work / f"of_{kind}" / "model.safetensors", "--data", work / kind,
            "-o", work / f"{kind}.json", "--workers", 0, "--precision", "fp32", "--crops", 10,
        )  # fmt: skip
    passed("evaluate", "--fuse", work / "rgb.json", work / "flow.json", "-o", work / "fused.json")
    (rgb, _), (flow, _), (fused, _) = (
        load_scores(work / f"{kind}.json") for kind in ("rgb", "flow", "fused")
    )
    assert rgb.keys == flow.keys
    torch.testing.assert_close(fused.videos_NK, (rgb.videos_NK + flow.videos_NK) / 2)


def predictions(*arguments):
    rows = json.loads(passed("predict", *arguments, "--json", "--precision", "fp32").stdout)
    return [row["top"] for row in rows]


def test_plain_videos_get_the_flow_that_the_student_was_trained_on(work):
    """The shard's keys count the videos in the order of their names."""
    model = work / "of_flow" / "model.safetensors"
    plain = predictions(model, *sorted((work / "videos" / "test").rglob("*.mp4")))
    keys = json.loads(passed("predict", model, work / "flow", "--json", "--precision", "fp32").stdout)
    stored = [row["top"] for row in sorted(keys, key=lambda row: row["video"]) if "test" in row["video"]]
    assert len(plain) == 2
    assert plain == stored
    passed("predict", model, next((work / "videos").rglob("*.mp4")), "--timeline", "--window", 0.5)


def test_flow_of_another_kind_is_said(work, tmp_path):
    """The same videos with a bound of 10: a motion of one pixel has twice the value."""
    model, other = work / "of_flow" / "model.safetensors", tmp_path / "flow"
    passed("shard", work / "videos", "-o", other, "--flow", "dis", "--short-side", 40, "--flow-bound", 10)
    said = "trained on other optical flow (dis at short side 40, +-20 pixels) than these videos' (dis at"
    assert said in passed("evaluate", model, "--data", other).stderr
    assert said in passed("predict", model, other).stderr
    assert "other optical flow" not in passed("evaluate", model, "--data", work / "flow").stderr


def test_its_clips_are_drawn_in_colours(work, tmp_path):
    model = work / "of_flow" / "model.safetensors"
    video = next((work / "videos" / "test").rglob("*.mp4"))
    passed("cam", model, video, "-o", tmp_path / "cam")
    passed("deepdraw", model, "--class", "7_up", "-o", tmp_path / "up.gif", "--steps", 1)
    passed("features", model, "--data", work / "flow", "-o", tmp_path / "f.safetensors", "--workers", 0)


def test_frames_and_flow_are_not_mixed_up(work, tmp_path):
    of_rgb, of_flow = (work / f"of_{kind}" / "model.safetensors" for kind in ("rgb", "flow"))
    are_flow = "the videos are optical flow (dis at short side 40, +-20 pixels), the student takes 3 channels"
    are_rgb = "the student takes 2 channels, the videos are RGB. Make their optical flow"
    assert are_flow in refused("evaluate", of_rgb, "--data", work / "flow")
    assert are_rgb in refused("evaluate", of_flow, "--data", work / "rgb")
    assert are_flow in refused("predict", of_rgb, work / "flow")
    assert are_flow in refused(
        "finetune", "p3d_tiny", "--data", work / "flow", "-o", tmp_path / "two", *SMALL
    )
    assert are_rgb in refused("finetune", of_flow, "--data", work / "videos", "-o", tmp_path / "one", *SMALL)
    assert "augment.colour to 0" in refused(
        "finetune", of_flow, "--data", work / "flow", "-o", tmp_path / "other", *SMALL,
        "--set", "augment.colour=0.5",
    )  # fmt: skip


def test_a_student_whose_flow_is_unknown_asks_for_shards(work, tmp_path):
    file = tmp_path / "imported.safetensors"
    student = transfer3d.create_model("p3d_tiny", num_classes=2, in_chans=2)
    transfer3d.save(student, file)
    video = next((work / "videos").rglob("*.mp4"))
    assert "does not record how to compute it. Create shards of flow" in refused("predict", file, video)
    with pytest.raises(UsageError, match="the student takes 2 channels, the videos are RGB"):
        transfer3d.predict(student, [video])


def test_a_list_of_flow_fields_is_a_stream(work):
    student = transfer3d.load(work / "of_flow" / "model.safetensors")
    fields = torch.full((8, 40, 40, 2), 128, dtype=torch.uint8).numpy()
    assert len(list(transfer3d.stream(student, fields, fps=12))) > 0
    with pytest.raises(UsageError, match=r"not uint8 \[H, W, 2\]"):
        list(transfer3d.stream(student, torch.zeros(8, 40, 40, 3, dtype=torch.uint8).numpy(), fps=12))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_flow_shows_motion_and_not_the_digit(tmp_path):
    """Classes are digit x motion: the student finds the motion of new drawings, and guesses the digit."""
    config = SynthConfig(size=48, train=8, val=0, test=5, unlabelled=0, stills=1)
    synthesise(tmp_path / "digits", config, Console(quiet=True))
    passed("shard", tmp_path / "digits" / "videos", "-o", tmp_path / "flow", "--flow", "dis")
    passed(
        "finetune", "p3d_tiny", "--data", tmp_path / "flow", "-o", tmp_path / "run", *FLOW,
        "--precision", "fp32",
        "--set", "augment.flip=false", "--set", "max_steps=100", "--set", "batch_size=32", "--set", "lr=0.1",
        "--set", "clip.frames=8", "--set", "clip.size=32", "--set", "clip.crop=40",
    )  # fmt: skip
    passed(
        "evaluate", tmp_path / "run" / "model.safetensors", "--data", tmp_path / "flow",
        "-o", tmp_path / "flow.json",
    )  # fmt: skip
    scores, metadata = load_scores(tmp_path / "flow.json")
    names = [name.split("_") for name in metadata.classes]
    pairs = [
        (names[int(predicted)], names[labels[0]])
        for predicted, labels in zip(scores.videos_NK.argmax(1), scores.label_sets, strict=True)
    ]
    digit, motion = (sum(ours[i] == true[i] for ours, true in pairs) / len(pairs) for i in (0, 1))
    assert len(pairs) == 200
    assert motion > 0.9
    assert digit < 0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5  # chance, and three standard errors
