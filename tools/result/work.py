"""The work of one row and one seed: an image teacher, correspondence, fine-tuning, a test.

Each step writes a complete file or none, and is skipped where its file exists.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from rich.console import Console
from safetensors import safe_open
from torch import Tensor, nn

import transfer3d
from result.clips import Cache, centre_clips, memory_batches
from result.frame_teacher import FrameTeacher
from result.setting import (
    DIGITS,
    FAMILY,
    STUDENT,
    TEACHER,
    Digits,
    Row,
    Setting,
    finetune_recipe,
    transfer_recipe,
)
from transfer3d import (
    Classification,
    ClipBatch,
    ClipSpec,
    Correspondence,
    FrozenTeacher,
    Trainer,
    TrainerConfig,
)
from transfer3d.data import SynthConfig, VideoSet, share_of
from transfer3d.files import write_text
from transfer3d.nn.memory_format import channels_last
from transfer3d.recipes import Recipe
from transfer3d.run.training.image_teacher import train_teacher


@dataclass(frozen=True)
class Place:
    """The folder of all files, and the setting that they are made with."""

    folder: Path
    setting: Setting

    def data(self, row: Row) -> Path:
        """Returns the folder of the row's dataset."""
        return self.folder / f"data-{row.background}"

    def synth(self, row: Row) -> SynthConfig:
        """Returns the configuration of the row's dataset."""
        return self.setting.synth(row.background)

    def image_network(self, row: Row, digits: Digits, seed: int) -> Path:
        """Returns the file of a network that has learnt these digits on the row's background."""
        known = "" if digits == "0-9" else f"-{digits}"
        return self.folder / "teachers" / f"{row.background}{known}-{seed}.safetensors"

    def taught(self, row: Row, seed: int) -> Path:
        """Returns the file of a student after correspondence."""
        known = "" if row.teacher == "0-9" else f"-{row.teacher}"
        name = f"{row.background}-{row.start}{row.source or ''}-{row.transfer}{known}-{seed}".replace(" ", "")
        return self.folder / "taught" / f"{name}.safetensors"


def teach(place: Place, row: Row, digits: Digits, seed: int) -> None:
    """Trains an image network on still digits, and writes its accuracy on new ones next to it."""
    path = place.image_network(row, digits, seed)
    if path.with_suffix(".json").exists():
        return
    accuracy = train_teacher(
        TEACHER,
        path,
        place.synth(row),
        size=32,
        steps=place.setting.teacher_steps,
        seed=seed,
        precision="auto",
        console=Console(quiet=True),
        digits=DIGITS[digits],
    )
    write_text(path.with_suffix(".json"), json.dumps({"accuracy": accuracy}))


def transfer(place: Place, row: Row, seed: int) -> None:
    """Trains the row's student on unlabelled videos by correspondence with the teacher."""
    path = place.taught(row, seed)
    if path.exists() or row.transfer is None:
        return
    started = time.monotonic()
    recipe, data = transfer_recipe(place.setting, row.transfer, seed), place.data(row)
    teacher = _frozen_teacher(place, row, seed)
    classes = teacher.num_classes if recipe.correspondence.kd else 0
    student = _new_student(place, row, seed, classes)
    student.clip = recipe.clip.apply(student.clip)
    objective = Correspondence(teacher, student, recipe.correspondence, seed=seed)
    metrics = _fit(data, _videos(data, "unlabelled"), objective, student.clip, recipe).metrics
    seconds = time.monotonic() - started
    transfer3d.save(student, path, provenance={"metrics": dict(metrics), "seconds": seconds})


def finetune(
    place: Place, row: Row, seed: int, chosen: Mapping[str, Any], split: str = "test"
) -> dict[str, Any]:
    """Trains the row on its labels, tests it, and returns its record, JSON-able.

    Args:
        place: with the files of teacher and student that the row needs.
        row: of the tables.
        seed: of labels, weights and order.
        chosen: `lr` and `max_steps`.
        split: that it is tested on.
    """
    started = time.monotonic()
    recipe, data = finetune_recipe(seed, dict(chosen)), place.data(row)
    labels = row.labels or place.setting.labels
    videos = share_of(_videos(data, "train"), labels / place.setting.train, seed=seed)
    if row.start == "frames":
        objective = FrameTeacher(_frozen_teacher(place, row, seed), len(videos.classes), seed=seed)
        clip, predict = recipe.clip.apply(transfer3d.create_model(STUDENT).clip), objective.logits
    else:
        student = predict = _student(place, row, seed, len(videos.classes))
        clip = student.clip = recipe.clip.apply(student.clip)
        objective = Classification(student)
    trainer = _fit(data, videos, objective, clip, recipe)
    tested = _centre_clips(data, split, clip)
    with channels_last(objective.eval()), trainer.accelerator.autocast():
        predicted_N = predict_classes(predict, tested.clips, trainer.accelerator.device)
    teacher = place.image_network(row, row.teacher, seed).with_suffix(".json")
    return {
        "row": row.name,
        "seed": seed,
        "study": row.study,
        "split": split,
        "labels_per_class": labels,
        "labelled_videos": len(videos),
        **chosen,
        **accuracies(predicted_N, tested.labels, videos.classes),
        "training_accuracy": trainer.metrics["clip_accuracy"],
        "seconds": round(time.monotonic() - started, 1),
        "teacher": json.loads(teacher.read_text(encoding="utf-8")) if row.has_teacher else None,
        "transfer": _provenance(place.taught(row, seed)) if row.transfer else None,
    }


@torch.no_grad()
def predict_classes(predict: Callable[[Tensor], Tensor], clips_u8: Tensor, device: torch.device) -> Tensor:
    """Returns the most probable class of each clip [N]; `predict` maps clips to logits."""
    return torch.cat([predict(part.to(device)).argmax(1).cpu() for part in clips_u8.split(64)])


def accuracies(predicted_N: Tensor, labels_N: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Returns how often the class, its digit and its motion are correct, 0..1.

    Args:
        predicted_N: classes of all videos.
        labels_N: their true classes.
        classes: names, `<digit>_<motion>`.
    """
    names = np.array([name.split("_") for name in classes])
    correct = names[predicted_N.numpy()] == names[labels_N.numpy()]
    return {
        "top1": float(correct.all(1).mean()),
        "digit": float(correct[:, 0].mean()),
        "motion": float(correct[:, 1].mean()),
    }


def _student(place: Place, row: Row, seed: int, num_classes: int) -> transfer3d.VideoStudent:
    """Returns the student that fine-tuning starts from, with a new classifier."""
    if row.transfer is None:
        return _new_student(place, row, seed, num_classes)
    student = transfer3d.load(place.taught(row, seed)).train()
    student.reset_classifier(num_classes, seed=seed)
    return student


def _new_student(place: Place, row: Row, seed: int, num_classes: int) -> transfer3d.VideoStudent:
    """Returns a student with random weights, or inflated from the teacher."""
    if row.inflated_from is None:
        return transfer3d.create_model(STUDENT, num_classes=num_classes, seed=seed)
    network = _image_network(place, row, row.inflated_from, seed)
    student = transfer3d.inflate(network, FAMILY, num_classes=num_classes, seed=seed).student
    assert student.model_name == STUDENT, f"{TEACHER} becomes {student.model_name}, the others are {STUDENT}"
    return student


def _image_network(place: Place, row: Row, digits: Digits, seed: int) -> nn.Module:
    path = place.image_network(row, digits, seed)
    return timm.create_model(TEACHER, num_classes=10, checkpoint_path=str(path)).eval()


def _frozen_teacher(place: Place, row: Row, seed: int) -> FrozenTeacher:
    return FrozenTeacher(_image_network(place, row, row.teacher, seed))


def _provenance(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["transfer3d.provenance"])


def _fit(data: Path, videos: VideoSet, objective: nn.Module, clip: ClipSpec, recipe: Recipe) -> Trainer:
    """Trains an objective by a recipe with `max_steps`, and returns its trainer."""
    batch_size, steps = int(recipe.batch_size), recipe.max_steps or 1
    batches = memory_batches(
        videos,
        clip,
        recipe.augment,
        batch_size=batch_size,
        steps=steps,
        seed=recipe.seed,
        cache=_cache(data),
        teacher_view=getattr(objective, "teacher_view", "none"),
        teacher_clip=getattr(objective, "teacher_clip", None),
    )
    keys = (TrainerConfig.model_fields.keys() & Recipe.model_fields.keys()) - {"batch_size"}
    shared = {key: getattr(recipe, key) for key in keys}
    trainer = Trainer(objective, batches, TrainerConfig(**shared, steps=steps, batch_size=batch_size))
    trainer.run()
    return trainer


# A process keeps what it has opened and decoded for its next row.
@lru_cache(maxsize=8)
def _videos(data: Path, split: str) -> VideoSet:
    return transfer3d.open_videos(data / "shards", split=split)


@lru_cache(maxsize=2)
def _cache(data: Path) -> Cache:
    return {}


@lru_cache(maxsize=8)
def _centre_clips(data: Path, split: str, clip: ClipSpec) -> ClipBatch:
    return centre_clips(_videos(data, split), clip)
