"""Numbers from scores, by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from transfer3d.evaluate.protocol import Scores


def video_metrics(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """Returns the report of an evaluation, JSON-able.

    `clip_top1` judges every view by itself, `video_*` the mean of a video's views. A class without videos has
    the accuracy None and is left out of `mean_class_accuracy`. `confusion` has a row for each true class.
    """
    labels_N = torch.tensor(scores.labels)
    videos_NK, count = scores.videos_NK, len(classes)
    views_N = torch.tensor([len(views_VK) for views_VK in scores.views_VK])
    views_MK, view_labels_M = torch.cat(list(scores.views_VK)), labels_N.repeat_interleave(views_N)
    if count > 1:
        confusion = multiclass_confusion_matrix(videos_NK, labels_N, num_classes=count)
    else:
        confusion = torch.tensor([[len(labels_N)]])
    totals = confusion.sum(1)
    per_class = [float(confusion[k, k] / totals[k]) if int(totals[k]) else None for k in range(count)]
    present = [accuracy for accuracy in per_class if accuracy is not None]
    return {
        "scored": len(scores.keys),
        "views": len(views_MK),
        "clip_top1": _top(views_MK, view_labels_M, 1, count),
        "video_top1": _top(videos_NK, labels_N, 1, count),
        "video_top5": _top(videos_NK, labels_N, 5, count),
        "mean_class_accuracy": sum(present) / len(present),
        "per_class": dict(zip(classes, per_class, strict=True)),
        "confusion": confusion.tolist(),
    }


def _top(scores_NK: torch.Tensor, labels_N: torch.Tensor, k: int, classes: int) -> float:
    """Share of rows whose label is among the k highest scores; 1 where there are at most k classes."""
    if classes <= k:
        return 1.0
    return float(multiclass_accuracy(scores_NK, labels_N, num_classes=classes, top_k=k, average="micro"))
