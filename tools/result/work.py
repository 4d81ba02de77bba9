"""The work behind one row and one seed: a teacher, a student that is taught, labelled training, a test.

Every step leaves a whole file or nothing, and does nothing where its file is there.
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
import torch
from rich.console import Console
from torch import Tensor

from result.clips import DecodedVideos, MemoryBatches, centre_clips, side_of
from result.frame_teacher import FrameTeacher
from result.setting import (
    FAMILY,
    STUDENT,
    TEACHER,
    Row,
    Setting,
    finetune_recipe,
    transfer_recipe,
)
from transfer3d.data.moving_digits import SynthConfig
from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of
from transfer3d.data.training_clips import TeacherView
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import make_accelerator, resolve_precision
from transfer3d.engine.trainer import Trainer
from transfer3d.files import write_text
from transfer3d.inflation.inflation import inflate
from transfer3d.layout import ClipSpec
from transfer3d.models.checkpoint import load, save
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.classification import Classification
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.objectives.diagnostics import training_warnings
from transfer3d.objectives.teacher import FrozenTeacher
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.image_teacher import train_teacher
from transfer3d.run.training.plan import trainer_config
from transfer3d.weights.metadata import read_metadata

QUIET = Console(quiet=True)
CACHED_SETS = 8


@dataclass(frozen=True)
class Place:
    """Where everything lies, and the setting it is made with."""

    folder: Path
    setting: Setting

    def data(self, row: Row) -> Path:
        """Returns the folder of the row's dataset."""
        return self.folder / f"data-{row.background}"

    def synth(self, row: Row) -> SynthConfig:
        """Returns the configuration of the row's dataset."""
        return self.setting.synth(row.background)

    def teacher(self, row: Row, seed: int) -> Path:
        """Returns the file of the row's teacher, which rows with the same background share."""
        return self.folder / "teachers" / f"{row.background}-{seed}.safetensors"

    def taught(self, row: Row, seed: int) -> Path:
        """Returns the file of a taught student."""
        name = f"{row.background}-{row.start}-{row.transfer}-{seed}".replace(" ", "")
        return self.folder / "taught" / f"{name}.safetensors"


def teach(place: Place, row: Row, seed: int) -> None:
    """Trains a teacher on still digits; its accuracy on new ones lies beside it."""
    path = place.teacher(row, seed)
    if path.with_suffix(".json").exists():
        return
    accuracy = train_teacher(
        TEACHER,
        path,
        place.synth(row),
        size=32,
        steps=place.setting.teacher_steps,
        seed=seed,
        precision=resolve_precision("auto"),
        console=QUIET,
    )
    write_text(path.with_suffix(".json"), json.dumps({"accuracy": accuracy}))


def transfer(place: Place, row: Row, seed: int) -> None:
    """Lets the teacher teach the row's student, without labels."""
    path = place.taught(row, seed)
    if path.exists() or row.transfer is None:
        return
    started = time.monotonic()
    recipe = transfer_recipe(place.setting, row.transfer, seed)
    teacher = _teacher(place, row, seed, make_accelerator(resolve_precision(recipe.precision)).device)
    classes = teacher.num_classes if recipe.correspondence.kd else 0
    student = _untaught_student(place, row, seed, num_classes=classes)
    student.clip = recipe.clip.apply(student.clip)
    videos = _videos(place.data(row), "unlabelled")
    view = recipe.correspondence.teacher_view
    metrics = _fit(
        Correspondence(teacher, student, recipe.correspondence, seed=seed),
        _batches(place, row, videos, student.clip, recipe, "none" if view == "same" else view),
        recipe,
    )
    facts = {
        "metrics": dict(metrics),
        "alarms": training_warnings(metrics),
        "seconds": time.monotonic() - started,
    }
    save(student, path, provenance=facts)


def finetune(
    place: Place, row: Row, seed: int, chosen: Mapping[str, Any], split: str = "test"
) -> dict[str, Any]:
    """Trains the row on its labels, tests it, and returns its record, JSON-able.

    Args:
        place: with the teacher and the taught student that the row needs.
        row: which.
        seed: of labels, weights and order.
        chosen: `lr` and `max_steps`.
        split: that it is tested on.
    """
    started = time.monotonic()
    recipe = finetune_recipe(seed, dict(chosen))
    labels = row.labels or place.setting.labels
    data = place.data(row)
    videos = share_of(_videos(data, "train"), labels / place.setting.train, seed=seed)
    objective, clip, forward = _learner(place, row, seed, recipe, len(videos.classes))
    metrics = _fit(objective, _batches(place, row, videos, clip, recipe), recipe)
    objective.eval()
    found = accuracies(forward, *_centre_clips(data, split, clip), videos.classes)
    taught = read_metadata(place.taught(row, seed)).provenance if row.transfer else None
    teacher = place.teacher(row, seed).with_suffix(".json")
    return {
        "row": row.name,
        "seed": seed,
        "study": row.study,
        "split": split,
        "labels_per_class": labels,
        "labelled_videos": len(videos),
        **chosen,
        **found,
        "training_accuracy": metrics["clip_accuracy"],
        "seconds": round(time.monotonic() - started, 1),
        "teacher": json.loads(teacher.read_text(encoding="utf-8")) if row.has_teacher else None,
        "transfer": taught,
    }


def accuracies(
    forward: Callable[[Tensor], Tensor], clips_u8: Tensor, labels_N: Tensor, classes: Sequence[str]
) -> dict[str, float]:
    """Returns how often the class, its digit and its motion are right, 0..1.

    Args:
        forward: clips -> logits.
        clips_u8: of all videos.
        labels_N: their classes.
        classes: names, `<digit>_<motion>`.
    """
    with torch.no_grad():
        guesses_N = torch.cat([forward(part).argmax(1).cpu() for part in clips_u8.split(64)]).numpy()
    parts = np.array([name.split("_") for name in classes])
    right = parts[guesses_N] == parts[labels_N.numpy()]
    return {
        "top1": float(right.all(1).mean()),
        "digit": float(right[:, 0].mean()),
        "motion": float(right[:, 1].mean()),
    }


def _learner(
    place: Place, row: Row, seed: int, recipe: Recipe, classes: int
) -> tuple[torch.nn.Module, ClipSpec, Callable[[Tensor], Tensor]]:
    """Returns what learns from labels, the clips that it sees, and how it answers."""
    accelerator = make_accelerator(resolve_precision(recipe.precision))
    clip = recipe.clip.apply(create_model(STUDENT, num_classes=0).clip)
    if row.start == "frames":
        frames = FrameTeacher(_teacher(place, row, seed, accelerator.device), classes, seed=seed)

        def by_frames(clips_u8: Tensor) -> Tensor:
            with accelerator.autocast():
                return frames.logits(clips_u8.to(accelerator.device)).float()

        return frames, clip, by_frames
    if row.transfer is None:
        student = _untaught_student(place, row, seed, num_classes=classes)
    else:
        student = load(place.taught(row, seed)).train()
        student.reset_classifier(classes, seed=seed)
    student.clip = recipe.clip.apply(student.clip)

    def by_clips(clips_u8: Tensor) -> Tensor:
        clips = normalise(clips_u8.to(accelerator.device), student.clip.mean, student.clip.std)
        with accelerator.autocast():
            return student(clips).float()

    return Classification(student), student.clip, by_clips


def _untaught_student(place: Place, row: Row, seed: int, *, num_classes: int) -> VideoStudent:
    if row.start == "scratch":
        return create_model(STUDENT, num_classes=num_classes, seed=seed)
    network = _teacher_network(place, row, seed)
    student = inflate(network, FAMILY, num_classes=num_classes, seed=seed).student
    if student.model_name != STUDENT:
        raise AssertionError(f"{TEACHER} becomes {student.model_name}, the other rows have {STUDENT}")
    return student


def _teacher(place: Place, row: Row, seed: int, device: torch.device) -> FrozenTeacher:
    return FrozenTeacher(_teacher_network(place, row, seed)).to(device)


def _teacher_network(place: Place, row: Row, seed: int) -> torch.nn.Module:
    return create_image_model(TEACHER, str(place.teacher(row, seed)))


def _batches(
    place: Place,
    row: Row,
    videos: VideoSet,
    clip: ClipSpec,
    recipe: Recipe,
    teacher_view: TeacherView = "none",
) -> MemoryBatches:
    return MemoryBatches(
        _decoded(place.data(row), side_of(clip, recipe.augment)),
        videos,
        clip,
        recipe.augment,
        batch_size=int(recipe.batch_size),
        steps=recipe.max_steps or 0,
        seed=recipe.seed,
        teacher_view=teacher_view,
    )


def _fit(objective: torch.nn.Module, batches: MemoryBatches, recipe: Recipe) -> Mapping[str, float]:
    trainer = Trainer(
        objective,
        batches,
        trainer_config(recipe, steps=recipe.max_steps or 1, batch_size=int(recipe.batch_size)),
        accelerator=make_accelerator(resolve_precision(recipe.precision)),
    )
    return trainer.run()


# What a process has opened and decoded it keeps for its next row.
@lru_cache(maxsize=CACHED_SETS)
def _videos(data: Path, split: str) -> VideoSet:
    return open_videos(data / "shards", split=split, labelled=split != "unlabelled")


@lru_cache(maxsize=2)
def _decoded(data: Path, side: int) -> DecodedVideos:
    return DecodedVideos(side)


@lru_cache(maxsize=CACHED_SETS)
def _centre_clips(data: Path, split: str, clip: ClipSpec) -> tuple[Tensor, Tensor]:
    return centre_clips(_videos(data, split), clip)
