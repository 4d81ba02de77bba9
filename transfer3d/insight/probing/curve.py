"""Accuracy against the number of PCA dimensions (P3D, figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transfer3d.insight.pictures.figures import draw_curves, new_figure
from transfer3d.insight.probing.probe import ProbeConfig, Samples, samples_of, train_probe
from transfer3d.insight.probing.protocols import Split, check_splits

DIMENSIONS = (10, 50, 100, 200, 300, 400, 500)
"""Dimensions in figure 6."""


def probe_curve(
    splits: Sequence[Split], layer: str, config: ProbeConfig, dimensions: Sequence[int] = DIMENSIONS
) -> dict[str, Any]:
    """Returns the mean accuracy over splits for each number of dimensions, JSON-able.

    The components are those of the training part's standardised features. With all of them PCA is a rotation,
    to which a linear SVM is invariant: there the accuracy equals that of `probe_splits`. With fewer training
    videos than features it may differ, since test vectors lose components that no training vector has.

    Args:
        splits: training and test part of each.
        layer: name of the layer.
        config: settings of the probe.
        dimensions: to try; numbers above the maximum are replaced by the maximum, once.

    Raises:
        UsageError: the parts do not belong together, or there is no such layer.
        DataError: a video has no class.
    """
    check_splits(splits)
    parts = [(samples_of(train, layer), samples_of(test, layer)) for train, test in splits]
    most = min(min(train.vectors_ND.shape) for train, _ in parts)
    counts = sorted({min(count, most) for count in dimensions})
    accuracies = np.array([_one_split(train, test, counts, config) for train, test in parts])
    points = [
        {"dimensions": count, "accuracy": float(values.mean()), "folds": values.tolist()}
        for count, values in zip(counts, accuracies.T, strict=True)
    ]
    return {"layer": layer, "features": parts[0][0].vectors_ND.shape[1], "points": points}


def _one_split(train: Samples, test: Samples, counts: Sequence[int], config: ProbeConfig) -> list[float]:
    rotate = make_pipeline(StandardScaler(), PCA(max(counts), svd_solver="full")).fit(train.vectors_ND)
    train_ND, test_ND = rotate.transform(train.vectors_ND), rotate.transform(test.vectors_ND)
    accuracies = []
    for count in counts:
        kept = replace(train, vectors_ND=train_ND[:, :count])
        probe = train_probe(kept, config, standardise=False)
        accuracies.append(probe.accuracy(replace(test, vectors_ND=test_ND[:, :count])))
    return accuracies


def curve_figure(curves: Sequence[Mapping[str, Any]], *, chance: float) -> Figure:
    """Returns the curves of several layers as a figure.

    Args:
        curves: results of `probe_curve`.
        chance: accuracy of guessing, 0..1.
    """
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    series = {
        f"{curve['layer']} ({curve['features']} numbers)": [
            (point["dimensions"], point["accuracy"]) for point in curve["points"]
        ]
        for curve in curves
    }
    line = (chance, f"chance {100 * chance:.3g} %")
    draw_curves(axes, series, label="accuracy, % of test videos", percent=True, line=line)
    lines = axes.get_lines()[: len(series)]
    for line in lines:
        line.set_marker("o")
    axes.set_xlabel("PCA dimensions of the features")
    best = max(accuracy for points in series.values() for _, accuracy in points)
    axes.set_ylim(0, min(130 * best, 103))
    axes.legend(lines, list(series), frameon=False, fontsize=8, loc="best")
    return figure
