"""Saved scores and late fusion."""

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.errors import DataError, UsageError
from transfer3d.evaluation.fusion import fuse_scores
from transfer3d.evaluation.scores import Scores, load_scores, save_scores

CLASSES = ["x", "y", "z"]
KEYS = ["a", "b", "c"]
SETS = [(0,), (1,), (2,)]
RGB = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]
FLOW = [[0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]


def save(path, rows=RGB, keys=KEYS, sets=SETS, classes=CLASSES, split="test", order=(0, 1, 2)):
    views = [torch.tensor([rows[i]]) for i in order]
    scores = Scores([keys[i] for i in order], [sets[i] for i in order], views)
    save_scores(scores, path, classes=classes, split=split, protocol="dense")
    return path


def test_scores_come_back_as_they_were(tmp_path):
    views = [torch.rand(3, 4), torch.rand(1, 4)]
    scales = [torch.tensor([0, 0, 1]), torch.tensor([0])]
    scores = Scores(["a", "b"], [(0, 2), (1,)], views, scales, "windows")
    save_scores(scores, tmp_path / "r.json", classes=list("wxyz"), split="val", protocol="windows")
    found, facts = load_scores(tmp_path / "r.json")
    assert (found.keys, found.label_sets, found.pooling) == (("a", "b"), ((0, 2), (1,)), "windows")
    assert all(torch.equal(one, two) for one, two in zip(found.views_VK, views, strict=True))
    assert torch.equal(found.videos_NK, scores.videos_NK)
    assert (facts.split, facts.classes) == ("val", tuple("wxyz"))
    assert load_file(tmp_path / "r.scores.safetensors")["views"].shape == (4, 4)


def test_the_mean_of_two_models(tmp_path):
    rgb, flow = save(tmp_path / "rgb.json"), save(tmp_path / "flow.json", FLOW, order=(2, 0, 1))
    fused, _ = fuse_scores([rgb, flow])
    torch.testing.assert_close(fused.videos_NK, (torch.tensor(RGB) + torch.tensor(FLOW)) / 2)
    weighted, _ = fuse_scores([rgb, flow], [1, 3])
    torch.testing.assert_close(weighted.videos_NK, (torch.tensor(RGB) + 3 * torch.tensor(FLOW)) / 4)


def test_the_command_fuses_and_counts_again(tmp_path):
    rgb, flow = save(tmp_path / "rgb.json"), save(tmp_path / "flow.json", FLOW)
    out = tmp_path / "fused.json"
    done = CliRunner().invoke(app, ["evaluate", "--fuse", str(rgb), str(flow), "-o", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["video_top1"] == 1.0  # RGB alone is right on a, flow on b and c
    assert not [name for name in report if name.startswith("clip_")]
    assert report["expected"] == report["scored"] == 3
    again = CliRunner().invoke(app, ["evaluate", "--fuse", str(rgb), "--json"])
    counted = json.loads(again.stdout)
    assert counted["video_top1"] == counted["clip_top1"] == pytest.approx(1 / 3)
    thrice = CliRunner().invoke(app, ["evaluate", "--fuse", str(out), str(rgb), "--json"])
    assert thrice.exit_code == 0, thrice.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ["a", "b", "d"]}, "other videos: 2 are in only one, first c"),
        ({"classes": ["x", "y", "w"]}, r"other classes \(3 and 3\)"),
        ({"split": "val"}, "of the splits 'test' and 'val'"),
        ({"sets": [(0,), (2,), (2,)]}, "other labels, first at b"),
    ],
)
def test_reports_of_other_videos_are_refused(tmp_path, change, message):
    one, two = save(tmp_path / "one.json"), save(tmp_path / "two.json", FLOW, **change)
    with pytest.raises(DataError, match=message):
        fuse_scores([one, two])


def test_a_report_without_scores_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no scores beside it \(r.scores.safetensors\)"):
        fuse_scores([tmp_path / "r.json"])
    path = save(tmp_path / "r.json")
    for weights in ([1.0, 2.0], [-1.0], [0.0], [float("nan")], [float("inf")]):
        with pytest.raises(UsageError, match="1 numbers, none negative"):
            fuse_scores([path], weights)


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_damaged_scores_are_refused(tmp_path, kind):
    path = save(tmp_path / "r.json")
    file = tmp_path / f"r.scores.{kind}"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match="damaged scores"):
        load_scores(path)
    save(tmp_path / "r.json")
    facts = json.loads((tmp_path / "r.scores.json").read_text())
    (tmp_path / "r.scores.json").write_text(json.dumps({**facts, "classes": ["x"]}))
    with pytest.raises(DataError, match="do not match"):
        load_scores(path)
