"""One row and one seed: a student made, taught without labels, fine-tuned and tested; or the teacher."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

import transfer3d
from transfer3d import Correspondence, CorrespondenceConfig, FrozenTeacher, Trainer, TrainerConfig
from transfer3d.data import VideoDataset, VideoSet

Split = Literal["val", "test"]
FRAMES = "frame baseline"
ROWS = ("scratch", "inflated", "correspondence", "inflated + correspondence", FRAMES)
TEST_CLIPS, PROBE_CLIPS = 2, 4


class Setting(BaseModel):
    """What all rows share; a run continues one with the same setting alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str = "tf_efficientnet_lite0"
    """timm model whose weights are given."""
    family: str = "i3d"
    """That the teacher is inflated to; the students from scratch have the same shape."""
    frames: int = Field(default=8, ge=1)
    stride: int = Field(default=4, ge=1)
    size: int = Field(default=112, ge=16)
    batch_size: int = Field(default=16, ge=2)
    finetune_steps: int = Field(default=50, ge=1)
    transfer_steps: int = Field(default=100, ge=1)
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Of fine-tuning with AdamW; each row takes the best on validation."""
    penalties: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Weight decays of the linear probe, as many as there are rates."""
    transfer_rates: tuple[float, float] = (2e-3, 3e-4)
    """Of correspondence, from random and from inflated weights."""
    bank: int = Field(default=256, ge=0)
    teacher_frames: int = Field(default=2, ge=1)


@dataclass(frozen=True)
class Work:
    """The folder of all files, the weights, and the videos of each split.

    Attributes:
        unlabelled: for correspondence; labels are not read.
    """

    folder: Path
    setting: Setting
    weights: Path
    train: VideoSet
    val: VideoSet
    test: VideoSet
    unlabelled: VideoSet
    workers: int

    def choices(self, row: str) -> tuple[float, ...]:
        """Returns what validation chooses from: learning rates, or penalties of the frame baseline."""
        return self.setting.penalties if row == FRAMES else self.setting.rates

    def record(self, row: str, seed: int, choice: float, split: Split) -> dict[str, Any]:
        """Trains and tests, and returns the record, JSON-able."""
        started, videos = time.monotonic(), self.val if split == "val" else self.test
        if row == FRAMES:
            predicted = self._probe(seed, choice, videos)
        else:
            student = self._student(row, seed)
            config = self._config(self.setting.finetune_steps, choice, seed)
            Trainer(transfer3d.Classification(student), self.train, config).run()
            result = transfer3d.evaluate(student, videos, clips=TEST_CLIPS, workers=self.workers)
            predicted = dict(zip(result.keys, result.scores.argmax(1).tolist(), strict=True))
        labels = zip(videos.keys, videos.labels, strict=True)
        correct = [int(predicted[key] == label) for key, label in labels]
        top1 = sum(correct) / len(correct)
        seconds = round(time.monotonic() - started, 1)
        record = {"seed": seed, "choice": choice, "split": split, "top1": top1}
        return {**record, "correct": correct, "seconds": seconds}

    def step_seconds(self) -> float:
        """Returns the seconds of one step of fine-tuning, by the last two of four steps of few clips."""
        marks: list[float] = []

        class Timed(transfer3d.Classification):
            def forward(self, batch: transfer3d.ClipBatch) -> transfer3d.LossReport:
                marks.append(time.perf_counter())
                return super().forward(batch)

        config = self._config(4, 1e-3, 0).model_copy(update={"batch_size": PROBE_CLIPS})
        Trainer(Timed(self._new("scratch", 0)), self.train, config).run()
        return (marks[3] - marks[1]) / 2 / PROBE_CLIPS * self.setting.batch_size

    def _config(self, steps: int, lr: float, seed: int) -> TrainerConfig:
        return TrainerConfig.model_validate(
            {
                "steps": steps, "lr": lr, "seed": seed, "batch_size": self.setting.batch_size,
                "workers": self.workers, "save_every": 20,
                "optimizer": {"name": "adamw", "weight_decay": 0.02, "clip_grad_norm": 5.0},
                "schedule": {"kind": "cosine", "warmup": 0.1},
            }
        )  # fmt: skip

    @cached_property
    def _image_net(self) -> nn.Module:
        return timm.create_model(self.setting.teacher, checkpoint_path=str(self.weights)).eval()

    @cached_property
    def _inflated(self) -> transfer3d.VideoStudent:
        return transfer3d.inflate(self._image_net, self.setting.family, num_classes=0).student

    @cached_property
    def _clip(self) -> transfer3d.ClipSpec:
        setting = self.setting
        return replace(
            self._inflated.clip, frames=setting.frames, stride=setting.stride, size=setting.size,
            crop=round(setting.size * 8 / 7),
        )  # fmt: skip

    def _new(self, row: str, seed: int) -> transfer3d.VideoStudent:
        """Returns a student with a new classifier, inflated or with random weights."""
        classes, shape = len(self.train.classes), self._inflated
        if row.startswith("inflated"):
            student = copy.deepcopy(shape)
            student.reset_classifier(classes, seed=seed)
        else:
            student = transfer3d.create_model(shape.model_name, classes, seed=seed, **shape.model_args)
        student.clip = self._clip
        return student

    def _student(self, row: str, seed: int) -> transfer3d.VideoStudent:
        """Returns the student that fine-tuning starts from."""
        if "correspondence" not in row:
            return self._new(row, seed)
        folder = self.folder / "taught" / f"{row.replace(' ', '')}-{seed}"
        if not (folder / "finished.json").exists():
            self._teach(row, seed, folder)
        student = transfer3d.load(folder / "model.safetensors")
        student.reset_classifier(len(self.train.classes), seed=seed)
        return student

    def _teach(self, row: str, seed: int, folder: Path) -> None:
        """Trains a student by correspondence; an interrupted run is continued."""
        setting, student = self.setting, self._new(row, seed)
        student.reset_classifier(0)
        terms = CorrespondenceConfig(
            infonce=1.0, bank=setting.bank, teacher_view="native", teacher_frames=setting.teacher_frames
        )
        objective = Correspondence(FrozenTeacher(self._image_net), student, terms, seed=seed)
        rate = setting.transfer_rates[row.startswith("inflated")]
        config = self._config(setting.transfer_steps, rate, seed)
        resume = (folder / "trainer.json").exists()
        Trainer(objective, self.unlabelled, config, folder, resume=resume).run()

    def _probe(self, seed: int, penalty: float, videos: VideoSet) -> dict[str, int]:
        """Returns the classes that a linear classifier on the teacher's features predicts, by video."""
        clip = FrozenTeacher(self._image_net).own_view(self._clip)
        features_ND = self._features(VideoDataset(self.train, clip, training=True, seed=seed), seed)
        labels_N = torch.tensor(self.train.labels)
        mean, std = features_ND.mean(0), features_ND.std(0) + 1e-5
        head = nn.Linear(features_ND.shape[1], len(self.train.classes))
        nn.init.zeros_(head.weight)
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits_NK = head((features_ND - mean) / std)
            loss = nn.functional.cross_entropy(logits_NK, labels_N) + penalty * head.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        tested_ND = self._features(VideoDataset(videos, clip), seed)
        places = [self.train.classes.index(name) for name in videos.classes]
        predicted = head((tested_ND - mean) / std).argmax(1).tolist()
        return {key: places.index(place) for key, place in zip(videos.keys, predicted, strict=True)}

    def _features(self, dataset: VideoDataset, seed: int) -> Tensor:
        teacher, frames = FrozenTeacher(self._image_net), self.setting.teacher_frames
        torch.manual_seed(seed)
        rows: list[Tensor] = []
        for number in range(len(dataset)):
            clip = dataset[number].clip
            middles = [(2 * section + 1) * clip.shape[1] // (2 * frames) for section in range(frames)]
            rows.append(teacher(clip[None, :, middles]).features)
        return torch.cat(rows)
