"""Trackers: what is logged can be read back."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.engine import tracker
from transfer3d.errors import SetupError


def finetune(digits_folder, out, *more):
    return CliRunner().invoke(
        app,
        ["finetune", "p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", str(digits_folder / "shards"),
         "-o", str(out), "--workers", "0", "--set", "batch_size=8", "--set", "max_steps=4", "--set",
         "log_every=2", "--set", "precise_batch_norm=8", "--set", "class_weights=balanced", *more],
    )  # fmt: skip


def test_tensorboard_holds_what_the_log_holds(digits_folder, tmp_path):
    out = tmp_path / "run"
    done = finetune(digits_folder, out, "--set", "tracker=tensorboard")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [row["split"] for row in rows] == ["train", "train", "val"]
    for row in rows:
        for name in set(row) - {"step", "split"}:
            values = {event.step: event.value for event in events.Scalars(f"{row['split']}/{name}")}
            assert values[row["step"]] == pytest.approx(row[name])
    settings = "".join(str(path.read_text()) for path in out.rglob("hparams.yml"))
    assert "student: p3d_tiny" in settings
    assert "lr: 0.06" in settings


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_its_package(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, f"is_{name}_available", lambda: False)
    with pytest.raises(
        SetupError, match=rf"tracker={name} needs a package: pip install transfer3d\[{name}\]"
    ):
        tracker.open_tracker(name, tmp_path, {})


def test_a_tracker_that_is_broken_is_a_sentence(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise AttributeError("partially initialized module 'wandb'\nand more")

    monkeypatch.setattr(tracker, "is_wandb_available", lambda: True)
    monkeypatch.setattr(tracker, "WandBTracker", broken)
    with pytest.raises(
        SetupError, match=r"tracker=wandb does not start \(AttributeError: partially .*'wandb'\)"
    ):
        tracker.open_tracker("wandb", tmp_path, {})


def test_no_tracker_writes_nothing(tmp_path):
    assert tracker.open_tracker("none", tmp_path, {}) is None
    assert not list(tmp_path.iterdir())


def test_wandb_is_started_by_name(tmp_path, monkeypatch):
    calls = []

    class Recorder:
        def __init__(self, project, **options):
            calls.append(("init", project, options["name"]))

        def start(self):
            calls.append("start")

        def store_init_configuration(self, values):
            calls.append(values)

    monkeypatch.setattr(tracker, "is_wandb_available", lambda: True)
    monkeypatch.setattr(tracker, "WandBTracker", Recorder)
    assert isinstance(tracker.open_tracker("wandb", tmp_path / "run", {"lr": 0.1, "data": None}), Recorder)
    assert calls == [("init", "transfer3d", "run"), "start", {"lr": 0.1}]
