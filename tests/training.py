"""A network, a task and batches so small that a training run takes a tenth of a second."""

import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import make_accelerator
from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.run_folder import RunFolder
from transfer3d.engine.schedule import ScheduleConfig
from transfer3d.engine.trainer import Trainer
from transfer3d.objectives.objective import LossReport


class Net(nn.Module):
    """Convolution, BatchNorm, dropout and a head: weights, buffers and randomness."""

    def __init__(self, dropout=0.5):
        super().__init__()
        torch.manual_seed(7)
        self.trunk = nn.ModuleDict({"stem": nn.Conv3d(3, 4, 3), "norm": nn.BatchNorm3d(4)})
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * 2 * 6 * 6, 3)

    def group_matcher(self, coarse=False):
        """As timm's networks have it: the layers' names, from the input on."""
        return {"stem": r"^trunk\.stem\.", "norm": r"^trunk\.norm\."}

    def forward(self, clips):
        maps = torch.relu(self.trunk["norm"](self.trunk["stem"](clips.float() / 255)))
        return self.head(self.dropout(maps.flatten(1)))


class Task(nn.Module):
    """Cross-entropy of a student.

    Args:
        student: takes uint8 clips.
        at_step: functions of the task, called in the forward pass of the batch with that number.
    """

    def __init__(self, student, at_step=None):
        super().__init__()
        self.student, self.at_step = student, at_step or {}

    def forward(self, batch):
        action = self.at_step.get(int(batch.keys[0]))
        if action:
            action(self)
        total = nn.functional.cross_entropy(self.student(batch.clips), batch.labels)
        return LossReport(total, {"loss": total.detach()})


def batches(first_step):
    for step in range(first_step, 1000):
        generator = torch.Generator().manual_seed(step)
        clips = torch.randint(0, 256, (4, 3, 4, 8, 8), dtype=torch.uint8, generator=generator)
        yield ClipBatch(clips, torch.arange(4) % 3, [str(step)] * 4, [str(i) for i in range(4)])


def make(folder, steps=8, at_step=None, validate=None, net=None, **config):
    """Returns a trainer, and the list of what it publishes."""
    defaults = {"lr": 0.05, "save_every": 3, "log_every": 1, "optimizer": OptimizerConfig(name="adamw")}
    defaults["schedule"] = ScheduleConfig(warmup=0.2)
    published = []
    trainer = Trainer(
        Task(net or Net(), at_step),
        batches,
        TrainerConfig(steps=steps, **{**defaults, **config}),
        folder,
        accelerator=make_accelerator("fp32"),
        publish=lambda name, _metrics: published.append(name),
        validate=validate,
    )
    return trainer, published


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.objective.student.state_dict().items()}


def assert_same(first, second):
    assert all(torch.equal(first[name], second[name]) for name in first)


def claim(path, resume=False):
    folder = RunFolder(path, resume=resume)
    (path / "recipe.toml").write_text("")
    return folder
