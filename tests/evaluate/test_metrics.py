"""Metrics against scikit-learn and counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from transfer3d.evaluate.metrics import video_metrics
from transfer3d.evaluate.protocol import Scores


def random_scores(videos=60, views=3, classes=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (videos,), generator=generator)
    scores = torch.rand(videos, views, classes, generator=generator)
    scores[torch.arange(videos), 0, labels] += 0.6
    scores /= scores.sum(-1, keepdim=True)
    return Scores([str(i) for i in range(videos)], labels.tolist(), list(scores))


def test_against_scikit_learn():
    scores = random_scores()
    report = video_metrics(scores, [f"c{k}" for k in range(7)])
    means = np.stack([views.numpy().mean(0) for views in scores.views_VK])
    guesses = means.argmax(1)
    assert report["video_top1"] == pytest.approx(accuracy_score(scores.labels, guesses))
    top5 = top_k_accuracy_score(scores.labels, means, k=5, labels=range(7))
    assert report["video_top5"] == pytest.approx(top5)
    assert report["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(scores.labels, guesses))
    assert report["confusion"] == confusion_matrix(scores.labels, guesses, labels=range(7)).tolist()
    each = np.concatenate([views.numpy().argmax(1) for views in scores.views_VK])
    assert report["clip_top1"] == pytest.approx(accuracy_score(np.repeat(scores.labels, 3), each))
    assert (report["scored"], report["views"]) == (60, 180)


def test_views_can_be_of_different_number():
    scores = Scores(["a", "b"], [0, 1], [torch.tensor([[1.0, 0], [0.9, 0.1]]), torch.tensor([[0.8, 0.2]])])
    report = video_metrics(scores, ["x", "y"])
    assert (report["clip_top1"], report["video_top1"]) == (pytest.approx(2 / 3), 0.5)


def test_a_class_without_videos_has_no_accuracy_and_does_not_count():
    scores = Scores(["a", "b"], [0, 0], [torch.tensor([[0.9, 0.1, 0]]), torch.tensor([[0.2, 0.8, 0]])])
    report = video_metrics(scores, ["x", "y", "z"])
    assert report["per_class"] == {"x": 0.5, "y": None, "z": None}
    assert report["mean_class_accuracy"] == 0.5
    assert report["video_top5"] == 1.0


def test_one_class_is_always_right():
    report = video_metrics(Scores(["a"], [0], [torch.ones(1, 1)]), ["only"])
    assert (report["video_top1"], report["confusion"]) == (1.0, [[1]])
