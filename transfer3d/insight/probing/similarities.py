"""Twelve similarities and distances of two vectors, which represent a pair of videos.

Kliper-Gross, Hassner and Wolf, "The Action Similarity Labeling Challenge", IEEE TPAMI 34(3), 2012, represent
a pair of videos by 12 (dis)similarities of each descriptor, P3D (section 5) by 12 for each of four layers.
For x and y without negative values, and u = x / |x|, v = y / |y|:

    1  dot              sum(x y)
    2  hellinger        sum(sqrt(x y))
    3  root_dot         sqrt(sum(x y))
    4  root_hellinger   sqrt(sum(sqrt(x y)))
    5  ratio            sqrt(sum(x y)) / sum(x + y)
    6  manhattan        sum(|x - y|)
    7  euclidean        sqrt(sum((x - y)^2))
    8  root_distance    sqrt(sum((sqrt(x) - sqrt(y))^2))
    9  cosine           sum(u v)
    10 unit_hellinger   sum(sqrt(u v))
    11 unit_manhattan   sum(|u - v|)
    12 unit_euclidean   sqrt(sum((u - v)^2))

The challenge's results page names the first two. The table with the others was not available: 3 to 12 are our
choice of the same kind. So results are not comparable with the decimals printed in papers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transfer3d.errors import UsageError
from transfer3d.insight.features.file import FeatureSet

Similarity = Callable[[Tensor, Tensor], Tensor]
"""Maps two non-negative float64 matrices `P D` to float64 `P`."""
PAIRS_AT_ONCE = 64
NOT_COMPARABLE = (
    "not comparable with printed decimals: of ASLAN's 12 similarities only the first two are known, "
    "the other ten are our choice"
)
"""Note in every result on pairs."""


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(1)


def _hellinger(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sqrt().sum(1)


def _manhattan(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().sum(1)


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().sum(1).sqrt()


def _ratio(x: Tensor, y: Tensor) -> Tensor:
    both = (x + y).sum(1)
    return torch.where(both > 0, _dot(x, y).sqrt() / both, 0.0)


def _unit(similarity: Similarity) -> Similarity:
    normalize = torch.nn.functional.normalize  # leaves a zero vector unchanged
    return lambda x, y: similarity(normalize(x), normalize(y))


SIMILARITIES: dict[str, Similarity] = {
    "dot": _dot,
    "hellinger": _hellinger,
    "root_dot": lambda x, y: _dot(x, y).sqrt(),
    "root_hellinger": lambda x, y: _hellinger(x, y).sqrt(),
    "ratio": _ratio,
    "manhattan": _manhattan,
    "euclidean": _euclidean,
    "root_distance": lambda x, y: _euclidean(x.sqrt(), y.sqrt()),
    "cosine": _unit(_dot),
    "unit_hellinger": _unit(_hellinger),
    "unit_manhattan": _unit(_manhattan),
    "unit_euclidean": _unit(_euclidean),
}


def pair_vectors(
    features: FeatureSet, layers: Sequence[str], first_P: Sequence[int], second_P: Sequence[int]
) -> Tensor:
    """Returns the similarities of pairs of videos, layer after layer: float64 `P 12L`.

    Args:
        features: features of the videos.
        layers: L of them.
        first_P: index of each pair's first video.
        second_P: index of its second video.

    Raises:
        UsageError: there is no such layer, or it has negative values.
    """
    columns = []
    for name in layers:
        vectors_ND = features.layer(name)
        if vectors_ND.min() < 0:
            raise UsageError(
                f"layer '{name}' has negative values, and the similarities take square roots. "
                "Choose layers after a ReLU or a softmax."
            )
        rows = zip(
            torch.tensor(first_P).split(PAIRS_AT_ONCE),
            torch.tensor(second_P).split(PAIRS_AT_ONCE),
            strict=True,
        )
        parts = [(vectors_ND[first].double(), vectors_ND[second].double()) for first, second in rows]
        columns += [torch.cat([similarity(x, y) for x, y in parts]) for similarity in SIMILARITIES.values()]
    return torch.stack(columns, 1)
