"""Videos of several classes from a list to shards, training, evaluation, prediction and the report."""

import json
import re

import numpy as np
import pytest
import torch
from miniatures import note, video
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.evaluation.pooling import pooled
from transfer3d.evaluation.scores import Scores, load_scores

CLASSES = ["jump", "run", "sit"]
LABELS = {
    "a": "run;jump",
    "b": "sit",
    "c": "jump",
    "d": "run;sit",
    "e": "run;sit",
    "f": "jump;sit",
    "g": "run",
}
TINY = ["--workers", "0", "--set", "clip.size=32", "--set", "clip.frames=4", "--set", "batch_size=2"]


def run(*arguments, json_only=False):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout if json_only else done.output


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    rows = [f"{name}.mp4,{labels},{'val' if name in 'efg' else 'train'}" for name, labels in LABELS.items()]
    for name in LABELS:
        video(root / f"{name}.mp4")
    run("shard", note(root / "list.csv", "path,label,split", *rows), "-o", root / "shards")
    return root / "shards"


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    said = run("finetune", "p3d_tiny", "--data", shards, "-o", out, *TINY, "--set", "max_steps=3",
               "--set", "class_weights=balanced")  # fmt: skip
    return out, said


def test_the_loss_is_chosen_by_the_data_and_said(trained):
    out, said = trained
    assert "loss: bce, binary per class (2 of 4 videos have several labels)" in said
    assert re.search(r"training hit@1 \d+\.\d%, validation mAP \d+\.\d%", said)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    validated = [row for row in rows if row["split"] == "val"][-1]
    assert validated["score"] == validated["mean_ap"]
    student = transfer3d.load(out / "model.safetensors")
    assert student.multi_label
    assert student.class_names == CLASSES
    logits = torch.tensor([[0.0, 2.0, -1.0]])
    torch.testing.assert_close(student.probabilities(logits), 1 / (1 + torch.exp(-logits)))
    page = (out / "report.html").read_text()
    assert "mean average precision" in page


def test_evaluation_is_scikit_learns_average_precision(shards, trained, tmp_path):
    report = tmp_path / "report.json"
    run("evaluate", trained[0] / "model.safetensors", "--data", shards, "--split", "val", "-o", report,
        "--workers", "0")  # fmt: skip
    found = json.loads(report.read_text())
    scores, metadata = load_scores(report)
    assert metadata.multi_label
    listed = sorted(sorted(CLASSES.index(name) for name in LABELS[key].split(";")) for key in "efg")
    assert sorted(map(sorted, scores.label_sets)) == listed
    truth = np.array([[k in labels for k in range(3)] for labels in scores.label_sets])
    for k, name in enumerate(CLASSES):
        expected = average_precision_score(truth[:, k], scores.videos_NK[:, k].numpy())
        assert found["per_class"][name] == pytest.approx(expected)
    expected = average_precision_score(truth, scores.videos_NK.numpy(), average="macro")
    assert found["mean_ap"] == pytest.approx(expected)
    assert "confusion" not in found


def test_predictions_are_of_each_class_alone(shards, trained):
    file = trained[0] / "model.safetensors"
    rows = json.loads(run("predict", file, shards.parent / "a.mp4", "--clips", "1", "--json", json_only=True))
    scores = {guess["class"]: guess["score"] for guess in rows[0]["top"]}
    assert sum(scores.values()) != pytest.approx(1, abs=1e-3)
    run("report", trained[0], "--data", shards)
    assert "Classes by average precision" in (trained[0] / "report.html").read_text()


def test_softmax_learns_the_first_class_alone(shards, tmp_path):
    said = run("finetune", "p3d_tiny", "--data", shards, "-o", tmp_path / "run", *TINY,
               "--set", "max_steps=1", "--set", "loss=softmax")  # fmt: skip
    assert "loss: softmax, with only the first label of 2 of 4 videos" in said
    assert not transfer3d.load(tmp_path / "run" / "model.safetensors").multi_label


def test_a_file_says_so_only_where_it_is_so(tmp_path):
    """A file of single labels is what it was, byte for byte of its header's names."""
    student = transfer3d.create_model("p3d_tiny", num_classes=3, seed=0)
    transfer3d.save(student, tmp_path / "one.safetensors")
    student.multi_label = True
    transfer3d.save(student, tmp_path / "several.safetensors")
    one, several = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "several"))
    assert b"multi_label" not in one
    assert b"transfer3d.multi_label" in several
    assert transfer3d.load(tmp_path / "several.safetensors").multi_label
    student.reset_classifier(4)
    assert not student.multi_label


def test_consensus_is_of_scores_before_the_sigmoid():
    logits_VK = torch.tensor([[0.3, -2.0], [1.2, 4.0], [-0.5, 0.0]])
    found = pooled(logits_VK.sigmoid(), torch.zeros(3), "consensus", multi_label=True)
    torch.testing.assert_close(found, logits_VK.mean(0).sigmoid())
    scores = Scores(["a"], [(0,)], [logits_VK.sigmoid()], pooling="consensus", multi_label=True)
    torch.testing.assert_close(scores.videos_NK[0], logits_VK.mean(0).sigmoid())
