"""Scores that somebody changed: read as what they are, or refused in a sentence."""

import json

import pytest
import torch
from endless import ENDLESS, place_endless
from safetensors.torch import load_file, save_file

from transfer3d.errors import DataError, Transfer3dError
from transfer3d.evaluation.fusion import fuse_scores
from transfer3d.evaluation.metrics import video_metrics
from transfer3d.evaluation.scores import Scores, load_scores, save_scores

ODD = (
    None,
    True,
    -1,
    7,
    2**70,
    1.5,
    float("nan"),
    "x",
    "\ud800",
    [],
    [[]],
    [[9]],
    [[-1], [0]],
    {},
    ["a"],
    ["a", "a"],
)
TENSORS = {
    "no views": ("views", torch.zeros(0, 2)),
    "views of one dimension": ("views", torch.zeros(3)),
    "views of three": ("views", torch.zeros(3, 2, 1)),
    "whole numbers": ("views", torch.zeros(3, 2, dtype=torch.int64)),
    "NaN": ("views", torch.full((3, 2), float("nan"))),
    "logits": ("views", torch.full((3, 2), 7.0)),
    "below zero": ("views", torch.full((3, 2), -0.1)),
    "more classes": ("views", torch.zeros(3, 5)),
    "counts that are too large": ("views_of", torch.tensor([2**62, 2**62])),
    "counts below zero": ("views_of", torch.tensor([4, -1])),
    "counts of nothing": ("views_of", torch.tensor([3, 0])),
    "counts that are not whole numbers": ("views_of", torch.tensor([1.0, 2.0])),
    "counts of two dimensions": ("views_of", torch.tensor([[1, 2]])),
    "no counts": ("views_of", torch.zeros(0, dtype=torch.int64)),
    "another scale": ("scale", torch.zeros(2, dtype=torch.int64)),
    "a scale of words": ("scale", torch.zeros(3)),
}


@pytest.fixture
def report(tmp_path):
    views = [torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8], [0.4, 0.6]])]
    scores = Scores(["a", "b"], [(0,), (1,)], views)
    save_scores(scores, tmp_path / "r.json", classes=["x", "y"], split="test", protocol="dense")
    return tmp_path / "r.json"


def counted(report):
    """The metrics of what is there, alone and fused with itself, or the sentence."""
    try:
        scores, metadata = load_scores(report)
        video_metrics(scores, metadata.classes)
        return fuse_scores([report, report])
    except Transfer3dError as error:
        return str(error)


@pytest.mark.parametrize("key", ["format", "keys", "label_sets", "classes", "split", "protocol", "pooling"])
def test_odd_names(report, key):
    file = report.with_name("r.scores.json")
    whole = json.loads(file.read_text())
    assert not isinstance(counted(report), str)
    for odd in ODD:
        file.write_text(json.dumps(whole | {key: odd}))
        said = counted(report)
        assert not isinstance(said, str) or 20 < len(said) < 1000


@pytest.mark.parametrize("change", TENSORS)
def test_odd_tensors_are_refused(report, change):
    file, (name, tensor) = report.with_name("r.scores.safetensors"), TENSORS[change]
    save_file(load_file(file) | {name: tensor}, file)
    with pytest.raises(DataError, match="do not match"):
        load_scores(report)


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_no_file_is_no_scores(report, kind):
    file = report.with_name("r.scores.json")
    file.unlink()
    place_endless(file, kind)
    assert "no scores beside it" in counted(report)
