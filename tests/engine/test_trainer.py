"""The trainer: exact resume, clean stops, and no step on a non-finite loss."""

import os
import signal
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from transfer3d.data.pipeline import Batch
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.run_folder import RunFolder
from transfer3d.engine.schedule import ScheduleConfig
from transfer3d.engine.trainer import Trainer
from transfer3d.errors import Interrupted, NonFiniteError, Preempted
from transfer3d.transfer.objective import LossReport


class Net(nn.Module):
    """Convolution, BatchNorm and dropout: weights, buffers and randomness."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.layers = nn.Sequential(
            nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(3)
        )
        self.layers(torch.zeros(2, 3, 4, 8, 8))

    def forward(self, clips):
        return self.layers(clips.float() / 255)


@dataclass
class Task:
    trainable: nn.Module
    at_step: dict

    def loss(self, trainable, batch):
        action = self.at_step.get(int(batch.keys[0]))
        if action:
            action(self)
        total = nn.functional.cross_entropy(trainable(batch.clips_u8), batch.labels_B)
        return LossReport(total, {"loss": total.detach()})


def batches(first_step):
    for step in range(first_step, 1000):
        generator = torch.Generator().manual_seed(step)
        clips = torch.randint(0, 256, (4, 3, 4, 8, 8), dtype=torch.uint8, generator=generator)
        yield Batch(clips, torch.arange(4) % 3, [str(step)] * 4, [str(i) for i in range(4)])


def make(folder, steps=8, at_step=None, validate=None, **config):
    defaults = {"lr": 0.05, "save_every": 3, "log_every": 1, "optimizer": OptimizerConfig(name="adamw")}
    published = []
    trainer = Trainer(
        Task(Net(), at_step or {}),
        batches,
        TrainerConfig(steps=steps, schedule=ScheduleConfig(warmup=0.2), **{**defaults, **config}),
        accelerator=make_accelerator("fp32"),
        folder=folder,
        publish=lambda name, _metrics: published.append(name),
        validate=validate,
    )
    return trainer, published


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.objective.trainable.state_dict().items()}


def assert_same(first, second):
    assert all(torch.equal(first[name], second[name]) for name in first)


def claim(path, resume=False):
    folder = RunFolder(path, resume=resume)
    (path / "recipe.toml").write_text("")
    return folder


class CrashError(Exception):
    pass


def crash(_task):
    raise CrashError


@pytest.mark.parametrize("stop_at", [1, 3, 5, 7])
def test_a_run_that_died_resumes_to_bit_equal_weights(tmp_path, stop_at):
    straight, _ = make(claim(tmp_path / "straight"))
    straight.run()
    folder = claim(tmp_path / "broken")
    broken, _ = make(folder, at_step={stop_at: crash})
    with pytest.raises(CrashError):
        broken.run()
    folder.close()
    folder = claim(tmp_path / "broken", resume=True)
    resumed, _ = make(folder)
    resumed.resume()
    assert resumed.step == stop_at // 3 * 3
    resumed.run()
    assert_same(weights(straight), weights(resumed))
    logged = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("straight", "broken")]
    assert logged == [8, 8]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Preempted), (signal.SIGINT, Interrupted)])
def test_a_signal_finishes_the_step_and_saves_it(tmp_path, number, error):
    straight, _ = make(claim(tmp_path / "straight"))
    straight.run()
    folder = claim(tmp_path / "stopped")
    stopped, published = make(folder, at_step={4: lambda _task: os.kill(os.getpid(), number)})
    with pytest.raises(error, match="step 5 of 8.*--resume"):
        stopped.run()
    assert published[-1] == "model"
    folder.close()
    resumed, _ = make(claim(tmp_path / "stopped", resume=True))
    resumed.resume()
    assert resumed.step == 5
    resumed.run()
    assert_same(weights(straight), weights(resumed))


def test_a_non_finite_loss_stops_before_the_step_and_saves_nothing(tmp_path):
    def poison(task):
        with torch.no_grad():
            task.trainable.layers[0].weight[0] = float("nan")

    folder = claim(tmp_path / "run")
    trainer, _ = make(folder, at_step={4: poison})
    with pytest.raises(NonFiniteError, match=r"step 5: loss nan.*clips 4"):
        trainer.run()
    tensors, state, _ = folder.load_checkpoint()
    assert state["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_the_best_is_published_when_the_score_rises(tmp_path):
    scores = iter([0.2, 0.5, 0.4, 0.9])
    trainer, published = make(
        claim(tmp_path / "run"), validate=lambda: {"score": next(scores)}, validate_every=2
    )
    trainer.run()
    assert published.count("best") == 3
    assert trainer.best == 0.9


def test_the_learning_rate_warms_up_and_falls_to_zero_by_a_cosine(tmp_path):
    import json
    import math

    trainer, _ = make(claim(tmp_path / "run"), steps=10)
    trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["lr"] for row in rows]
    assert rates[:2] == [0.0, 0.025]
    expected = [0.05 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(2, 10)]
    assert rates[2:] == pytest.approx(expected)
