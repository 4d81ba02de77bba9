"""Metrics of scores, by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_accuracy,
    multiclass_confusion_matrix,
)

from transfer3d.batch import multi_hot
from transfer3d.errors import DataError
from transfer3d.evaluation.scores import Scores

Labels = Literal["auto", "single", "multi"]
BEST = (1, 3, 5)
HITS = (1, 5)


def video_metrics(scores: Scores, classes: Sequence[str], *, labels: Labels = "auto") -> dict[str, Any]:
    """Returns the metrics of an evaluation, JSON-able.

    `clip_*` are over single views, `video_*` over the pooled scores of each video. With one label per video,
    `top<k>` is the share whose label is among the k highest scores, and `confusion` has a row for each true
    class; k is 1, 3 and 5, if there are more classes. With several labels, `hit<k>` is the share with any of
    them among the k highest (Sports-1M; P3D, table 2). `mean_ap` is the average precision averaged over
    classes. A class without videos has None and is excluded from means.

    Args:
        scores: scores of labelled videos.
        classes: names, by label.
        labels: "single", "multi", or "auto" = multi if any video has several labels, or the student is
            multi-label.

    Raises:
        DataError: a video has no label, or several with labels="single".
    """
    counts = {key: len(labels) for key, labels in zip(scores.keys, scores.label_sets, strict=True)}
    several = [key for key, count in counts.items() if count > 1]
    if unlabelled := [key for key, count in counts.items() if not count]:
        raise DataError(
            f"{len(unlabelled)} of {len(scores.keys)} videos have no label, first {unlabelled[0]}. "
            "Metrics need labelled videos; `transfer3d predict` does not."
        )
    if labels == "single" and several:
        raise DataError(
            f"{len(several)} of {len(scores.keys)} videos have several labels, first {several[0]}: "
            "top-k needs a single label. Use --labels multi."
        )
    videos_NK, count = scores.videos_NK, len(classes)
    views_N = torch.tensor([len(views_VK) for views_VK in scores.views_VK])
    views_MK = torch.cat(list(scores.views_VK))
    report: dict[str, Any] = {"scored": len(scores.keys), "views": len(views_MK)}
    target_NK = multi_hot(scores.label_sets, count).long()
    precision = average_precisions(videos_NK, target_NK)
    if labels == "multi" or (labels == "auto" and (several or scores.multi_label)):
        target_MK = target_NK.repeat_interleave(views_N, dim=0)
        report |= {f"clip_hit{k}": hit_share(views_MK, target_MK, k) for k in HITS}
        report |= {f"video_hit{k}": hit_share(videos_NK, target_NK, k) for k in HITS}
        report |= {
            "mean_ap": known_mean(precision),
            "per_class": dict(zip(classes, precision, strict=True)),
        }
        return report
    labels_N = torch.tensor([label_set[0] for label_set in scores.label_sets])
    labels_M = labels_N.repeat_interleave(views_N)
    confusion = _confusion(videos_NK, labels_N, count)
    totals = confusion.sum(1).tolist()
    per_class = [float(confusion[k, k] / totals[k]) if totals[k] else None for k in range(count)]
    best = [k for k in BEST if k == 1 or k < count]
    report |= {f"clip_top{k}": _top(views_MK, labels_M, k, count) for k in best}
    report |= {f"video_top{k}": _top(videos_NK, labels_N, k, count) for k in best}
    return report | {
        "mean_class_accuracy": known_mean(per_class),
        "mean_ap": known_mean(precision),
        "per_class": dict(zip(classes, per_class, strict=True)),
        "confusion": confusion.tolist(),
    }


def known_mean(values: Sequence[float | None]) -> float:
    """Returns the mean without None."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present)


def average_precisions(scores_NK: Tensor, target_NK: Tensor) -> list[float | None]:
    """Returns the average precision of each class; None for a class without videos."""
    return [
        float(binary_average_precision(scores_NK[:, k], target_NK[:, k])) if target_NK[:, k].any() else None
        for k in range(scores_NK.shape[1])
    ]


def _confusion(scores_NK: Tensor, labels_N: Tensor, count: int) -> Tensor:
    if count == 1:
        return torch.tensor([[len(labels_N)]])
    return multiclass_confusion_matrix(scores_NK, labels_N, num_classes=count)


def _top(scores_NK: Tensor, labels_N: Tensor, k: int, classes: int) -> float:
    """Returns the share of rows whose label is among the k highest scores; 1 for at most k classes."""
    if classes <= k:
        return 1.0
    return float(multiclass_accuracy(scores_NK, labels_N, num_classes=classes, top_k=k, average="micro"))


def hit_share(scores_NK: Tensor, target_NK: Tensor, k: int) -> float:
    """Returns the share of rows with any of their labels among the k highest scores."""
    best_Nk = scores_NK.topk(min(k, scores_NK.shape[1])).indices
    return float(target_NK.gather(1, best_Nk).any(1).double().mean())
