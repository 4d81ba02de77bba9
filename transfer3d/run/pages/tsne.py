"""Draws the features of a file as points of a plane."""

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
        file: features, as `transfer3d features` wrote them.
        layer: name of one of its layers.
        perplexity: see `embed`.
        seed: of PCA, and of where points start.
        color_by: see `chosen_parts`.
        out: where the figure is written, PNG or SVG.

    Raises:
        UsageError: `out` is not a figure file, no such layer or part, or too high a perplexity.
        DataError: the file is refused, has too few videos, or they do not differ.
    """
    check_figure_path(out)
    features = load_features(file)
    chosen_parts(features.classes, color_by)  # refused before the work
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
