"""Embeds features in two dimensions by PCA and t-SNE.

Papers: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008; Qiu et al., P3D, ICCV 2017,
section 5.2 and figure 7. As in P3D, the features are first reduced to 50 dimensions by PCA. Points are
initialised with their first two principal components, as Kobak and Berens advise ("The art of using t-SNE for
single-cell transcriptomics", Nature Communications 2019), plus small noise that depends on the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # a dependency of scikit-learn

from transfer3d.errors import DataError, UsageError
from transfer3d.insight.features.file import FeatureSet

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]

PCA_DIMENSIONS = 50
PERPLEXITY = 30.0
START, OUT_OF_PLACE = 1e-4, 1e-5  # standard deviations of the initial points, and of their noise
FEWEST = 4
NEIGHBOURS = 10


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A two-dimensional embedding of videos.

    Attributes:
        keys: one per video.
        labels_N: class of each video, -1 if unlabelled.
        classes: names, by label.
        points_N2: coordinates; they have no unit, and large distances have no meaning.
        layer: the layer of the features.
        perplexity: perplexity of the t-SNE.
        neighbours: number of nearest neighbours of the purities.
        purity: see `neighbour_purity`, in the embedding; None without labels, or without two videos of a
            class.
        feature_purity: the same for the features themselves, as a reference.
    """

    keys: Sequence[str]
    labels_N: Labels
    classes: Sequence[str]
    points_N2: Floats
    layer: str
    perplexity: float
    neighbours: int
    purity: float | None
    feature_purity: float | None


def embed(
    features: FeatureSet, layer: str = "pool5", *, perplexity: float | None = None, seed: int = 0
) -> Embedding:
    """Embeds a set's features; the same seed gives the same points on the same machine.

    Args:
        features: features of at least four videos.
        layer: name of a layer.
        perplexity: approximate number of neighbours of a point; at least 1, and at most a third of the other
            points. None = 30, or less if there are too few points.
        seed: for PCA and the initial points.

    Raises:
        UsageError: no such layer, or the perplexity is too high.
        DataError: too few videos, or all have the same features.
    """
    vectors_ND = features.layer(layer).double().numpy()
    chosen = _perplexity(len(vectors_ND), perplexity)
    if not np.ptp(vectors_ND, axis=0).any():
        raise DataError(
            f"all {len(vectors_ND)} videos have the same features ({layer}): a t-SNE would show nothing."
        )
    points_N2 = plane(vectors_ND, perplexity=chosen, seed=seed)
    labels_N = features.labels_N.numpy()
    sizes = np.unique(labels_N, return_counts=True)[1]
    # With one video per class, no neighbour can have the point's class.
    labelled = (labels_N >= 0).all() and len(sizes) < len(labels_N)
    # With more neighbours than a class has members, some must be of other classes.
    others = int(np.median(sizes)) - 1 if labelled else len(labels_N) - 1
    k = max(min(NEIGHBOURS, others), 1)
    return Embedding(
        keys=features.keys,
        labels_N=labels_N,
        classes=features.classes,
        points_N2=points_N2,
        layer=layer,
        perplexity=chosen,
        neighbours=k,
        purity=neighbour_purity(points_N2, labels_N, k) if labelled else None,
        feature_purity=neighbour_purity(vectors_ND, labels_N, k) if labelled else None,
    )


def _perplexity(points: int, requested: float | None) -> float:
    """Checks the perplexity, which is at most a third of the other points, or returns the default."""
    if points < FEWEST:
        raise DataError(f"{points} videos: a t-SNE needs at least {FEWEST}. Extract more features.")
    most = (points - 1) / 3
    if requested is None:
        return min(PERPLEXITY, most)
    if not 1 <= requested <= most:
        raise UsageError(
            f"--perplexity {requested:g}: must be 1 to {most:.4g} for {points} videos, a third of the others."
        )
    return requested


def plane(vectors_ND: Floats, *, perplexity: float, seed: int) -> Floats:
    """Returns float32 points [N, 2] for vectors, by PCA to 50 dimensions and t-SNE."""
    size = min(PCA_DIMENSIONS, *vectors_ND.shape)
    start_N2 = np.random.default_rng(seed).normal(scale=OUT_OF_PLACE, size=(len(vectors_ND), 2))
    # With several threads the order of summation varies, and they wait for each other on a busy machine.
    with threadpool_limits(1):
        reduced_ND = PCA(size, random_state=seed).fit_transform(vectors_ND)
        start_N2[:, :size] += START * reduced_ND[:, :2] / reduced_ND[:, 0].std()
        start: Any = start_N2.astype(np.float32)  # the library's type hints only allow names
        return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced_ND)


def neighbour_purity(vectors_ND: Floats, labels_N: Labels, k: int) -> float:
    """Returns the share of all points' k nearest neighbours (Euclidean) that have the point's class."""
    near_NK = NearestNeighbors(n_neighbors=k).fit(vectors_ND).kneighbors(return_distance=False)
    return float((labels_N[near_NK] == labels_N[:, None]).mean())
