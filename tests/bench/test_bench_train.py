"""`transfer3d bench train`: loops by hand that do what the trainer does, and waiting that is measured."""

import json
from itertools import repeat

import pytest
import torch
from media import write_numbered
from rich.console import Console
from typer.testing import CliRunner

from transfer3d.batch import ClipBatch
from transfer3d.bench import evaluation, train
from transfer3d.bench.baselines import load_baseline
from transfer3d.cli.main import app
from transfer3d.engine import metrics_window
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.schedule import ScheduleConfig
from transfer3d.engine.trainer import Trainer
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.objectives.classification import Classification

SMALL = ClipSpec(frames=16, stride=1, size=32, crop=32)


def test_the_loop_by_hand_makes_the_trainers_steps():
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (4, 3, 8, 32, 32), dtype=torch.uint8, generator=generator)
    batch = ClipBatch(clips, torch.arange(4) % 3, list("abcd"), list("abcd"))
    first, second = (create_model("p3d_tiny", num_classes=3, seed=3) for _ in range(2))
    trainer = Trainer(
        Classification(first), lambda _: repeat(batch),
        TrainerConfig(steps=3, lr=1e-4, schedule=ScheduleConfig(kind="constant")),
        accelerator=make_accelerator("fp32"), console=Console(quiet=True),
    )  # fmt: skip
    trainer.run()
    hand = load_baseline("finetune_plain").HandWritten(second, second.clip.mean, second.clip.std, low=False)
    hand.run(clips, batch.labels, 3)
    for name, value in second.state_dict().items():  # which decays biases too
        torch.testing.assert_close(first.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_command(monkeypatch, tmp_path):
    for number in range(4):
        write_numbered(tmp_path / f"{number}.mp4", 60 + number)
    for name, value in (
        ("NETWORK", "p3d_tiny"), ("CLIP", SMALL), ("SHARDS_CLIP", SMALL), ("STEPS", 1), ("WINDOW", 1),
        ("WINDOWS", 2), ("SHARDS_CLIPS", 2), ("SIDE", 48),
    ):  # fmt: skip
        monkeypatch.setattr(train, name, value)
    for name, value in (("CLIPS", 2), ("SIZE", 32), ("STUDENT", "p3d_tiny")):
        monkeypatch.setattr(evaluation, name, value)
    done = CliRunner().invoke(app, ["bench", "train", "--data", str(tmp_path), "--pairs", "1", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["results"]
    assert [row["at_least"] for row in rows] == [2.8, pytest.approx(1 / 1.03), 1.3, None, 0.95]
    assert all(row["ratio"] > 0 for row in rows)
    assert 0 < rows[-1]["ratio"] <= 1
    wrong = CliRunner().invoke(app, ["bench", "train", "--only", "nothing"])
    assert (wrong.exit_code, "no case contains 'nothing'" in wrong.output) == (2, True)


def test_waiting_is_what_the_loop_waits(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics_window.time, "monotonic", lambda: now[0])

    def slow():
        for number in range(3):
            now[0] += 2
            yield number

    rows = metrics_window.MetricsWindow()
    for _ in rows.time_waiting(slow()):
        now[0] += 6
    assert rows.flush()["data_wait"] == 0.25
    now[0] += 1
    assert rows.flush()["data_wait"] == 0
