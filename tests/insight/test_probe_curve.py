"""The PCA curve: its end is the probe itself, its points are those of an SVD by hand."""

import io

import numpy as np
import pytest
import torch
from feature_sets import feature_set
from PIL import Image
from sklearn.svm import LinearSVC

from transfer3d.insight.pictures.figures import to_png
from transfer3d.insight.probing.curve import DIMENSIONS, curve_figure, probe_curve
from transfer3d.insight.probing.probe import ProbeConfig
from transfer3d.insight.probing.protocols import probe_splits


def splits_of(count=2, **options):
    options = {"classes": 3, "videos": 20, "width": 30, "apart": 0.3, **options}
    return [
        (
            feature_set(seed=2 * n, name=f"t{n}", **options),
            feature_set(seed=2 * n + 1, name=f"v{n}", **options),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("method", ["svm", "logistic", "knn"])
def test_with_all_dimensions_it_is_the_probe_itself(method):
    splits = splits_of(videos=12)
    curve = probe_curve(splits, "pool5", ProbeConfig(method=method), dimensions=(5, 30))
    whole = probe_splits(splits, "pool5", ProbeConfig(method=method))
    assert [point["dimensions"] for point in curve["points"]] == [5, 30]
    assert curve["points"][1]["folds"] == [fold["accuracy"] for fold in whole["folds"]]
    assert curve["points"][1]["accuracy"] == pytest.approx(whole["accuracy"])


def test_a_point_is_that_of_the_largest_singular_values():
    ((train, test),) = splits_of(1)
    curve = probe_curve([(train, test)], "pool5", ProbeConfig(value=1.0), dimensions=(2, 4))
    known, asked = (part.layers["pool5"].double().numpy() for part in (train, test))
    scaled = [(part - known.mean(0)) / known.std(0) for part in (known, asked)]
    _, _, axes = np.linalg.svd(scaled[0], full_matrices=False)
    for point in curve["points"]:
        x, y = (part @ axes[: point["dimensions"]].T for part in scaled)
        x, y = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (x, y))
        classifier = LinearSVC(C=1.0, max_iter=10_000).fit(x, train.labels_N.numpy())
        assert point["accuracy"] == np.mean(classifier.predict(y) == test.labels_N.numpy())


def test_what_only_weak_components_show_is_lost_first():
    """Pairs of twin features carry noise, so they lead; the classes differ in features that stand alone."""

    def part(seed, name):
        rng = np.random.default_rng(seed)
        features = feature_set(2, 60, name=name, seed=seed)
        noise = rng.standard_normal((120, 5)).repeat(2, 1)
        signal = rng.standard_normal((120, 2)) + 6 * features.labels_N.numpy()[:, None] * [1, -1]
        features.layers["pool5"] = torch.from_numpy(np.concatenate([noise, signal], 1)).float()
        features.layers["pool5"][:, -1] = features.layers["pool5"][:, -1].abs()
        return features

    features = (part(0, "train"), part(1, "test"))
    curve = probe_curve([features], "pool5", ProbeConfig(), dimensions=(1, 12))
    first, last = (point["accuracy"] for point in curve["points"])
    assert last > 0.95
    assert first < last


def test_dimensions_that_there_are_not_become_the_most_there_are():
    curve = probe_curve(splits_of(1), "pool5", ProbeConfig(value=1.0))
    assert [point["dimensions"] for point in curve["points"]] == [10, 30]
    assert (DIMENSIONS[0], DIMENSIONS[-1]) == (10, 500)
    few = probe_curve(splits_of(1, videos=5), "pool5", ProbeConfig(value=1.0))
    assert [point["dimensions"] for point in few["points"]] == [10, 15]


def test_the_picture_shows_a_curve_for_each_layer():
    points = [{"dimensions": d, "accuracy": a, "folds": [a]} for d, a in ((10, 0.4), (100, 0.7), (500, 0.8))]
    curves = [
        {"layer": name, "features": 2048, "points": points[:n]} for n, name in ((3, "pool5"), (2, "res4"))
    ]
    figure = curve_figure(curves, chance=0.01)
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["pool5 (2048 numbers)", "res4 (2048 numbers)"]
    assert [list(line.get_xdata()) for line in axes.get_lines()[:2]] == [[10, 100, 500], [10, 100]]
    assert list(axes.get_lines()[0].get_ydata()) == pytest.approx([40, 70, 80])
    assert "dimensions" in axes.get_xlabel()
    assert "%" in axes.get_ylabel()
    assert [text.get_text() for text in axes.texts] == ["chance 1 %"]
    assert Image.open(io.BytesIO(to_png(figure))).size[0] > 700
