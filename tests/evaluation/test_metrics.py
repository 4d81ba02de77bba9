"""Metrics against scikit-learn and counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    top_k_accuracy_score,
)

from transfer3d.errors import DataError
from transfer3d.evaluation.metrics import video_metrics
from transfer3d.evaluation.scores import Scores


def random_scores(videos=60, views=3, classes=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (videos,), generator=generator)
    scores = torch.rand(videos, views, classes, generator=generator)
    scores[torch.arange(videos), 0, labels] += 0.6
    scores /= scores.sum(-1, keepdim=True)
    keys = [str(i) for i in range(videos)]
    return Scores(keys, [(label,) for label in labels.tolist()], list(scores)), labels.numpy()


def table(*rows, label_sets):
    """Scores of videos with one view each."""
    views = [torch.tensor([row]) for row in rows]
    return Scores([f"v{i}" for i in range(len(rows))], label_sets, views)


def test_against_scikit_learn():
    scores, labels = random_scores()
    report = video_metrics(scores, [f"c{k}" for k in range(7)])
    means = np.stack([views.numpy().mean(0) for views in scores.views_VK])
    guesses = means.argmax(1)
    assert report["video_top1"] == pytest.approx(accuracy_score(labels, guesses))
    for k in (3, 5):
        expected = top_k_accuracy_score(labels, means, k=k, labels=range(7))
        assert report[f"video_top{k}"] == pytest.approx(expected)
    assert report["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert report["confusion"] == confusion_matrix(labels, guesses, labels=range(7)).tolist()
    every = np.concatenate([views.numpy() for views in scores.views_VK])
    repeated = np.repeat(labels, 3)
    assert report["clip_top1"] == pytest.approx(accuracy_score(repeated, every.argmax(1)))
    expected = top_k_accuracy_score(repeated, every, k=5, labels=range(7))
    assert report["clip_top5"] == pytest.approx(expected)
    precision = average_precision_score(np.eye(7)[labels], means, average="macro")
    assert report["mean_ap"] == pytest.approx(precision, abs=1e-6)
    assert (report["scored"], report["views"]) == (60, 180)


def test_several_labels_against_scikit_learn_and_by_hand():
    generator = np.random.default_rng(2)
    target = generator.random((50, 6)) < 0.3
    target[:, 4] = False  # a class that no video is of
    target[~target.any(1), 0] = True
    values = generator.random((50, 6)).astype(np.float32) + 0.3 * target
    values /= values.sum(1, keepdims=True)
    scores = table(*values.tolist(), label_sets=[tuple(np.flatnonzero(row).tolist()) for row in target])
    report = video_metrics(scores, list("abcdef"))
    assert "video_top1" not in report
    ranked = np.take_along_axis(target, np.argsort(-values, axis=1), axis=1)
    assert report["video_hit1"] == pytest.approx(ranked[:, 0].mean())
    assert report["video_hit5"] == pytest.approx(ranked[:, :5].any(1).mean())
    kept = [k for k in range(6) if k != 4]
    expected = average_precision_score(target[:, kept], values[:, kept], average="macro")
    assert report["mean_ap"] == pytest.approx(expected, abs=1e-6)
    assert report["per_class"]["e"] is None


def test_hits_of_clips_and_videos_by_hand():
    views = [torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]]), torch.tensor([[0.1, 0.5, 0.4]])]
    report = video_metrics(Scores(["a", "b"], [(1, 2), (0,)], views), ["x", "y", "z"])
    # Means (0.4, 0.2, 0.4) and (0.1, 0.5, 0.4); the best of views: 0, 2 of {1, 2}; 1 of {0}.
    assert report["clip_hit1"] == pytest.approx(1 / 3)
    assert report["clip_hit5"] == report["video_hit5"] == 1.0
    single = video_metrics(Scores(["b"], [(0,)], views[1:]), ["x", "y", "z"], labels="multi")
    assert single["video_hit1"] == 0.0


def test_one_label_of_several_is_refused():
    scores = table([0.5, 0.5], [0.2, 0.8], label_sets=[(0,), (0, 1)])
    with pytest.raises(DataError, match=r"1 of 2 videos have several labels, first v1.*--labels multi"):
        video_metrics(scores, ["x", "y"], labels="single")


def test_no_label_is_refused():
    scores = table([0.5, 0.5], [0.2, 0.8], label_sets=[(0,), ()])
    with pytest.raises(DataError, match=r"1 of 2 videos have no label, first v1"):
        video_metrics(scores, ["x", "y"])


def test_views_can_be_of_different_number():
    views = [torch.tensor([[1.0, 0], [0.9, 0.1]]), torch.tensor([[0.8, 0.2]])]
    report = video_metrics(Scores(["a", "b"], [(0,), (1,)], views), ["x", "y"])
    assert (report["clip_top1"], report["video_top1"]) == (pytest.approx(2 / 3), 0.5)


def test_a_class_without_videos_has_no_accuracy_and_does_not_count():
    report = video_metrics(table([0.9, 0.1, 0], [0.2, 0.8, 0], label_sets=[(0,), (0,)]), ["x", "y", "z"])
    assert report["per_class"] == {"x": 0.5, "y": None, "z": None}
    assert report["mean_class_accuracy"] == 0.5
    assert report["mean_ap"] == 1.0
    assert not {"video_top3", "clip_top3", "video_top5", "clip_top5"} & set(report)  # of three classes


def test_one_class_is_always_right():
    report = video_metrics(Scores(["a"], [(0,)], [torch.ones(1, 1)]), ["only"])
    assert (report["video_top1"], report["confusion"]) == (1.0, [[1]])
