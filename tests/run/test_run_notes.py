"""Notes of a run folder that somebody changed: passed over, or refused in a sentence."""

import json
import os
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tomli_w
import torch

from transfer3d.errors import DataError, Transfer3dError, UsageError
from transfer3d.evaluation.scores import Scores
from transfer3d.files import sha256_file
from transfer3d.insight.report.run_page import run_page
from transfer3d.recipes.load import dump, load_recipe
from transfer3d.run.pages.report import _evaluated
from transfer3d.run.pages.run_record import find_evaluation, read_log, read_run

NOTES = {
    "started.json": {
        "environment": {"processes": 1, "device": "CPU"},
        "data": {"videos": 3, "classes": {"a": 2, "b": 1}, "held_out": 0, "dropped": [["x.mp4", "cut"]],
                 "digest": "d"},
        "files": {},
    },
    "finished.json": {"steps": 4, "metrics": {"loss": 0.5}},
}  # fmt: skip
ODD = (None, True, -1, 2**70, 10**400, float("nan"), float("inf"), "x", "\ud800", [], {}, [[]], {"": None})
FAST = (2**70, "x", [[]])
EACH = [
    pytest.param(odd, id=str(place), marks=[] if odd in FAST else pytest.mark.slow)
    for place, odd in enumerate(ODD)
]
"""A page takes a while."""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "recipe.toml").write_text(dump(load_recipe("demo/tiny-finetune")))
    row = {"step": 1, "split": "train", "loss": 1.0, "clip_accuracy": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    for name, note in NOTES.items():
        (tmp_path / name).write_text(json.dumps(note))
    return tmp_path


def page_or_sentence(run):
    try:
        said = run_page(read_run(run))
    except Transfer3dError as error:
        said = str(error)
    assert "<html" in said or 10 < len(said) < 1000
    return said


def places(value, way=()):
    yield way
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from places(inner, (*way, key))


def put(document, way, value):
    return value if not way else {**document, way[0]: put(document[way[0]], way[1:], value)}


@pytest.mark.parametrize("name", NOTES)
@pytest.mark.parametrize("odd", EACH)
def test_odd_values_of_notes(run, name, odd):
    assert "<html" in page_or_sentence(run)
    for way in places(NOTES[name]):
        (run / name).write_text(json.dumps(put(NOTES[name], way, odd)))
        assert page_or_sentence(run)


@pytest.mark.parametrize("odd", EACH)
@pytest.mark.parametrize("key", ["step", "split", "loss", "clip_accuracy", "video_top1"])
def test_odd_values_of_the_log(run, key, odd):
    row = {"step": 2, "split": "val" if key == "video_top1" else "train", "loss": 0.5, key: odd}
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    assert page_or_sentence(run)


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "started.json", "finished.json", "x.json", "model.safetensors"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "nothing"])
def test_what_is_no_file_is_not_waited_for(run, name, kind):
    (run / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(run / name)
    else:
        (run / name).symlink_to("/dev/zero" if kind == "device" else "nowhere")
    assert page_or_sentence(run)


REPORT_OF = {
    "checkpoint_sha256": "", "data": "d", "data_digest": "x", "split": "test", "scored": 2, "views": 2,
    "protocol": {"name": "dense"}, "per_class": {"a": 1.0, "b": 0.0}, "confusion": [[1, 0], [1, 0]],
    "video_top1": 0.5, "mean_class_accuracy": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("key", REPORT_OF)
def test_odd_values_of_an_evaluation_are_passed_over(run, key):
    (run / "model.safetensors").write_bytes(b"")
    report = REPORT_OF | {"checkpoint_sha256": sha256_file(run / "model.safetensors")}
    (run / "test.json").write_text(json.dumps(report))
    found = find_evaluation(run)
    assert found.metrics["video_top1"] == 0.5
    assert found.classes == ["a", "b"]
    for odd in ODD:
        (run / "test.json").write_text(json.dumps(report | {key: odd}))
        found = find_evaluation(run)
        assert found is None or found.metrics[key] == odd or key in ("data", "data_digest")


def test_a_damaged_line_is_named(run):
    (run / "metrics.jsonl").write_text('{"step": true, "split": "train"}\n{"step": 1, "split": "train"}\n')
    with pytest.raises(DataError, match="line 1 is damaged"):
        read_log(run / "metrics.jsonl")


def test_stages_that_link_to_each_other_are_refused(run):
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    stages = {name: {"lr": 0.1} for name in ("one", "two")}
    (run / "recipe.toml").write_text(tomli_w.dumps(recipe | {"stages": stages}))
    assert "<html" in page_or_sentence(run)
    for name in stages:
        (run / name).symlink_to(".")
    with pytest.raises(UsageError, match=f"{run / 'one'}: the recipe of a stage has stages"):
        read_run(run)


def test_an_evaluation_of_several_labels_has_no_confusion(run):
    (run / "model.safetensors").write_bytes(b"")
    report = REPORT_OF | {"checkpoint_sha256": sha256_file(run / "model.safetensors")}
    del report["confusion"]
    (run / "test.json").write_text(json.dumps(report))
    assert find_evaluation(run) is not None
    (run / "test.json").write_text(json.dumps(report | {"confusion": None}))
    assert find_evaluation(run) is None


def test_an_evaluation_of_other_classes_gives_way_to_the_pages_own(run):
    record = read_run(run)
    (run / "model.safetensors").write_bytes(b"")
    report = REPORT_OF | {"checkpoint_sha256": sha256_file(run / "model.safetensors")}
    (run / "test.json").write_text(json.dumps(report))
    record = replace(record, evaluation=find_evaluation(run))

    def shown(*classes):
        scores = Scores(["v"], [(0,)], [torch.eye(len(classes))[:1]])
        predictions = SimpleNamespace(scores=scores, videos=Videos(list(classes)))
        predictions.features = SimpleNamespace(metadata=SimpleNamespace(split="test", data_digest="d"))
        return _evaluated(record, predictions).evaluation.classes

    assert shown("a", "b", "c") == ["a", "b", "c"]
    assert _evaluated(record, None).evaluation is record.evaluation
    assert shown("a", "b") is record.evaluation.classes


class Videos:
    """One video of a set with these classes."""

    def __init__(self, classes):
        self.classes = classes

    def __len__(self):
        return 1
