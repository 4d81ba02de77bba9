"""`transfer3d evaluate`: reports, scores beside them, labels, and refusals in one sentence."""

import json

import pytest
from media import encode, numbered_frames
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data.shard_writer import Sample, write_index, write_shards

CLASSES = ["run", "jump", "swim"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of six videos of which some have two labels, in the split `test`; `val` has one label each."""
    folder = tmp_path_factory.mktemp("multi") / "shards"
    folder.mkdir()

    def sample(number, labels, prefix):
        video = encode(numbered_frames(14 + number)[number:])
        return Sample(f"{prefix}{number}", video, "mp4", labels[0], f"{prefix}{number}", 14, labels=labels)

    several = [(0,), (0, 2), (1,), (1, 2), (2,), (2, 0)]
    parts = []
    for split, sets in (("test", several), ("val", [labels[:1] for labels in several])):
        parts += write_shards(
            folder, "some", split, [sample(n, labels, split[0]) for n, labels in enumerate(sets)]
        )
    official = {"test": 8, "val": 6}
    write_index(folder, "some", parts, classes=CLASSES, source="made here", official=official)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=3, seed=1), path, class_names=CLASSES)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def report_of(*arguments):
    done = run(*arguments, "--json", "--workers", 0, "--precision", "fp32")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout[done.stdout.index("{") :])


def test_several_labels_are_counted_as_hits(checkpoint, shards, tmp_path):
    report = report_of(
        checkpoint, "--data", shards, "--protocol", "p3d", "--seed", 3, "-o", tmp_path / "r.json"
    )
    assert report["protocol"]["name"] == "p3d"
    assert (report["protocol"]["count"], report["protocol"]["seed"]) == (20, 3)
    assert (report["expected"], report["scored"], report["views"]) == (6, 6, 120)
    assert report["official"] == 8
    assert report["video_hit5"] == 1.0
    assert 0 <= report["video_hit1"] <= 1
    assert 0 < report["mean_ap"] <= 1
    again = report_of("--fuse", tmp_path / "r.json")
    assert {key: again[key] for key in again if key.startswith(("clip", "video", "mean"))} == {
        key: report[key] for key in report if key.startswith(("clip", "video", "mean"))
    }
    other = report_of(checkpoint, "--data", shards, "--split", "val")
    assert "video_top1" in other
    assert "video_hit1" in report_of(checkpoint, "--data", shards, "--split", "val", "--labels", "multi")


def test_what_is_missing_of_the_dataset_is_said_beside_the_accuracy(checkpoint, shards):
    done = run(checkpoint, "--data", shards, "--workers", 0)
    assert "6/6 of 8 that the dataset lists" in done.output


REFUSALS = [
    (["--labels", "single"], 3, "3 of 6 videos have several labels, first t1"),
    (["--protocol", "v4dd"], 2, "did you mean 'v4d'"),
    (["--protocol", "t3d", "--crops", "3"], 2, "--protocol t3d has its own clips and crops"),
    (["--reverse", "units"], 2, "p3d_tiny takes single clips: it has no units"),
    (["more.safetensors"], 2, "To fuse reports, add --fuse"),
    (["--fuse-weights", "1"], 2, "To fuse reports, add --fuse"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), REFUSALS)
def test_refusals(checkpoint, shards, arguments, code, message):
    done = run(checkpoint, "--data", shards, "--workers", 0, *arguments)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())


def test_unlabelled_videos_are_refused(checkpoint, digits_folder):
    done = run(checkpoint, "--data", digits_folder / "shards", "--split", "unlabelled")
    assert done.exit_code == 3, done.output
    assert "Choose a split with labels, as in --split train" in " ".join(done.output.split())
    assert run(checkpoint).exit_code == 2
    wrong = run("--fuse", "a.json", "b.json", "--fuse-weights", "1,x")
    assert (wrong.exit_code, "1,1.5" in wrong.output) == (2, True)
