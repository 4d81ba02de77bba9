"""Plots the features of a file in two dimensions by t-SNE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer3d.insight.embedding import embed
from transfer3d.insight.features.file import load_features
from transfer3d.insight.pictures.embedding import chosen_parts, embedding_figure
from transfer3d.insight.pictures.figure_file import check_figure_path, write_figure


def draw_tsne(
    file: Path, *, layer: str, perplexity: float | None, seed: int, color_by: str, out: Path
) -> dict[str, Any]:
    """Returns the coordinates of every video, JSON-able.

    Args:
        file: features, written by `transfer3d features`.
        layer: name of one of its layers.
        perplexity: see `embed`.
        seed: for PCA and the initial positions.
        color_by: see `chosen_parts`.
        out: PNG or SVG file for the figure.

    Raises:
        UsageError: `out` is not a figure file, no such layer or part, or the perplexity is too high.
        DataError: the file is invalid, has too few videos, or all their features are equal.
    """
    check_figure_path(out)
    features = load_features(file)
    chosen_parts(features.classes, color_by)  # raises before the work
    embedding = embed(features, layer, perplexity=perplexity, seed=seed)
    write_figure(embedding_figure(embedding, color_by=color_by), out)
    names = [features.classes[label] if label >= 0 else None for label in embedding.labels_N.tolist()]
    points = zip(embedding.keys, names, embedding.points_N2.tolist(), strict=True)
    return {
        "features": str(file),
        "checkpoint": features.metadata.checkpoint,
        "layer": layer,
        "dimensions": features.layer(layer).shape[1],
        "perplexity": embedding.perplexity,
        "seed": seed,
        "neighbours": embedding.neighbours,
        "purity": embedding.purity,
        "feature_purity": embedding.feature_purity,
        "points": [{"key": key, "class": name, "x": x, "y": y} for key, name, (x, y) in points],
    }
