"""Supervised training: from scratch, from an inflated file or from a correspondence checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from transfer3d.data.crops import mirrored_classes
from transfer3d.data.overlap import contradicting_videos, shared_videos
from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of, split_off
from transfer3d.data.videoset import VideoSet
from transfer3d.errors import DataError, NoSuchSplit
from transfer3d.evaluation.metrics import video_metrics
from transfer3d.evaluation.scoring import refuse_dropped, score_videos
from transfer3d.objectives.classification import (
    Classification,
    Loss,
    balanced_binary_weights,
    balanced_weights,
)
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.builtin_data import data_folder, data_text
from transfer3d.run.training.session import Session
from transfer3d.run.training.students import build_student, parent_entry
from transfer3d.run.training.task import Metrics, Task
from transfer3d.run.training.warm_start import start_from


def complete_recipe(recipe: Recipe) -> Recipe:
    """Returns the recipe unchanged, after checking it.

    Raises:
        UsageError: it names no student.
    """
    recipe.require("student")
    return recipe


def build_task(session: Session) -> Task:
    """Opens the labelled videos and builds student and objective."""
    recipe = session.recipe
    name = recipe.require("student")
    session.say(f"finetune: {name}, {data_text(recipe)}")
    data = data_folder(session)
    whole = open_videos(data, split="train", labelled=True)
    if len(whole.classes) == 1:
        raise DataError(f"{data} has only one class, {whole.classes[0]}. A classifier needs two or more.")
    validation = open_validation(data, whole)
    if validation is None and recipe.val_share:
        whole, validation = split_off(whole, recipe.val_share, seed=recipe.seed)
    videos = share_of(whole, recipe.data_share, seed=recipe.seed)
    loss: Loss = recipe.loss or ("bce" if whole.multi_label else "softmax")
    student = build_student(recipe, num_classes=len(videos.classes))
    if recipe.start:
        session.say(start_from(student, recipe.start, videos.classes))
    held_out = f"{len(validation)} for validation" if validation else "none for validation"
    session.say(f"{len(videos)} labelled videos of {len(videos.classes)} classes in {data}, {held_out}")
    session.say_dropped(videos)
    _say_twice(session, whole, validation)
    _say_loss(session, whole, loss)
    _say_mirrored(session, videos)

    def validate() -> Metrics:
        assert validation is not None
        scores = score_videos(student, validation, session.accelerator, workers=recipe.workers)
        metrics = video_metrics(scores, validation.classes)
        shown = ("video_top1", "video_top5") if "video_top1" in metrics else ("mean_ap", "video_hit1")
        shares = {name: metrics[name] for name in shown if name in metrics}
        return {**shares, "score": shares[shown[0]]}

    def summary(metrics: Metrics) -> Iterator[str]:
        shown_metrics = {
            "training accuracy": "clip_accuracy",
            "training hit@1": "clip_hit1",
            "validation top-1": "video_top1",
            "validation mAP": "mean_ap",
        }
        yield ", ".join(f"{name} {metrics[key]:.1%}" for name, key in shown_metrics.items() if key in metrics)

    return Task(
        objective=Classification(
            student,
            label_smoothing=recipe.label_smoothing,
            class_weights=_class_weights(recipe, videos, loss),
            segments=recipe.segments,
            loss=loss,
        ),
        student=student,
        videos=videos,
        summary=summary,
        provenance={"made_by": "finetune", "parent": parent_entry(recipe.start or name)},
        class_names=list(videos.classes),
        validate=validate if validation else None,
        held_out=validation,
    )


def _class_weights(recipe: Recipe, videos: VideoSet, loss: Loss) -> Tensor | None:
    if recipe.class_weights == "none":
        return None
    if loss == "bce":
        return balanced_binary_weights(videos.label_sets, len(videos.classes))
    return balanced_weights(videos.labels, len(videos.classes))


def _say_loss(session: Session, videos: VideoSet, loss: Loss) -> None:
    """Prints the loss for multi-label videos, or if the recipe sets one."""
    several = sum(len(labels) > 1 for labels in videos.label_sets)
    if loss == "bce":
        session.say(
            f"loss: bce, binary per class ({several} of {len(videos)} videos have several labels); validated "
            "by mean average precision"
        )
    elif several:
        session.say(
            f"loss: softmax, with only the first label of {several} of {len(videos)} videos. To use all "
            "labels: --set loss=bce"
        )


def _say_twice(session: Session, videos: VideoSet, validation: VideoSet | None) -> None:
    """Warns of duplicate videos: under two classes, or in train and val."""
    if keys := contradicting_videos(videos):
        session.say(f"warning: {len(keys)} videos are in another class too, first {keys[0]}")
    if validation is not None and (keys := shared_videos(videos, validation)):
        session.say(
            f"warning: {len(keys)} of {len(validation)} validation videos are trained on too, first "
            f"{keys[0]}: their scores are not valid"
        )


def _say_mirrored(session: Session, videos: VideoSet) -> None:
    """Warns if mirroring makes clips of one class look like those of another."""
    pairs, augment = mirrored_classes(videos.classes), session.recipe.augment
    if pairs and augment.flip and not augment.flip_pairs:
        (one, other), more = pairs[0], f" and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
        session.say(
            f"warning: '{one}' and '{other}'{more} are mirror images of each other, and half of the clips "
            "are mirrored but keep their label. Disable mirroring with --set augment.flip=false, or list "
            "such pairs in augment.flip_pairs to swap their labels"
        )


def open_validation(data: str, train: VideoSet) -> VideoSet | None:
    """Returns the `val` split of the data, or None if there is none.

    Raises:
        DataError: its classes differ from the training set's, or a file is bad.
    """
    try:
        videos = open_videos(data, split="val", labelled=True)
    except NoSuchSplit:
        return None
    refuse_dropped(videos, data)
    if list(videos.classes) != list(train.classes):
        raise DataError(
            f"{data}: the val split has other classes than train "
            f"({len(videos.classes)} instead of {len(train.classes)}). Give both the same class folders."
        )
    return videos
