"""Probes: simple classifiers on frozen features.

Features are standardised by the training part's mean and standard deviation, each vector is divided by its
norm, and classified by a linear SVM (P3D, section 5), logistic regression or nearest neighbours. C or k is
chosen by cross-validation on the training part, in which clips of one source video stay together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from transfer3d.batch import multi_hot
from transfer3d.errors import DataError, UsageError, did_you_mean
from transfer3d.insight.features.file import FeatureSet

SEARCH_FOLDS = 5
MAX_ITERATIONS = 10_000
MANY = 1 / 8
"""Ratio of features to videos above which the SVM's dual problem is solved, up to ten times as fast; below
it, the dual solver may not converge."""


@dataclass(frozen=True)
class _Classifier:
    """A classifier with one hyperparameter.

    Attributes:
        build: builds the classifier from (hyperparameter, seed, whether there are many features).
        parameter: scikit-learn's name of the hyperparameter.
        values: to try.
        default: used if there are too few videos for cross-validation.
    """

    build: Callable[[float, int, bool], Any]
    parameter: str
    values: Sequence[float]
    default: float


STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
CLASSIFIERS: dict[str, _Classifier] = {
    "svm": _Classifier(
        lambda c, seed, many: LinearSVC(
            C=c, dual=many, random_state=seed, max_iter=MAX_ITERATIONS  # pyright: ignore[reportArgumentType]
        ),
        "C", STRENGTHS, 1.0,
    ),
    "logistic": _Classifier(
        lambda c, seed, _: LogisticRegression(C=c, random_state=seed, max_iter=MAX_ITERATIONS),
        "C", STRENGTHS, 1.0,
    ),
    "knn": _Classifier(
        lambda k, seed, _: KNeighborsClassifier(int(k)), "n_neighbors", (1, 3, 5, 10, 20), 1
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Options of a probe.

    Attributes:
        method: "svm", "logistic" or "knn".
        value: C of "svm" and "logistic", k of "knn"; None = chosen by cross-validation.
        seed: for the cross-validation's folds and the solvers.
        workers: processes for the cross-validation.

    Raises:
        UsageError: no such method, or its value is out of range.
    """

    method: str = "svm"
    value: float | None = None
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.method not in CLASSIFIERS:
            near = did_you_mean(self.method, CLASSIFIERS)
            raise UsageError(f"no method '{self.method}'{near}: must be one of {', '.join(CLASSIFIERS)}.")
        if self.value is None:
            return
        if not 0 < self.value < math.inf or (self.method == "knn" and self.value != int(self.value)):
            kind = "a whole number of neighbours" if self.method == "knn" else "C, a finite number above 0"
            raise UsageError(f"--value {self.value:g}: {self.method} takes {kind}.")


@dataclass(frozen=True)
class Samples:
    """Labelled vectors.

    Attributes:
        vectors_ND: float64.
        labels_N: int64, to train on; the first class of a video with several.
        groups_N: int64; equal for samples of the same source video.
        targets_NK: bool, all classes; a prediction of any of them is correct.
    """

    vectors_ND: NDArray[np.float64]
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    targets_NK: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels_N)

    def only(self, rows: NDArray[Any]) -> Samples:
        """Returns the samples of these rows."""
        return Samples(self.vectors_ND[rows], self.labels_N[rows], self.groups_N[rows], self.targets_NK[rows])


def samples_of(features: FeatureSet, layer: str) -> Samples:
    """Returns a layer of a set, grouped by source video.

    Raises:
        UsageError: there is no such layer.
        DataError: a video has no class.
    """
    vectors_ND = features.layer(layer).double().numpy()
    wrong = [key for key, labels in zip(features.keys, features.label_sets, strict=True) if not labels]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(features)} videos have no class, first {wrong[0]}. "
            "A probe needs labelled videos."
        )
    _, groups_N = np.unique(features.sources, return_inverse=True)
    targets_NK = multi_hot(features.label_sets, len(features.classes)).bool().numpy()
    return Samples(vectors_ND, features.labels_N.numpy(), groups_N, targets_NK)


@dataclass(frozen=True)
class Probe:
    """A trained classifier.

    Attributes:
        pipeline: scikit-learn pipeline from features to classes.
        value: C or k.
        searched: whether it was chosen by cross-validation.
    """

    pipeline: Any
    value: float
    searched: bool

    def accuracy(self, samples: Samples) -> float:
        """Returns the share of samples classified correctly."""
        return float(self.correct_N(samples).mean())

    def correct_N(self, samples: Samples) -> NDArray[np.bool_]:
        """Returns whether each sample is classified correctly."""
        predicted_N = self.pipeline.predict(samples.vectors_ND)
        return np.take_along_axis(samples.targets_NK, predicted_N[:, None], 1)[:, 0]

    def scores_NK(self, samples: Samples) -> NDArray[np.float64]:
        """Returns a score for each class; a class without training samples has the lowest."""
        vectors_ND, pipeline = samples.vectors_ND, self.pipeline
        if hasattr(pipeline, "decision_function"):
            scores = pipeline.decision_function(vectors_ND)
            scores = np.stack([-scores, scores], 1) if scores.ndim == 1 else scores
        else:
            scores = pipeline.predict_proba(vectors_ND)
        scores_NK = np.full(samples.targets_NK.shape, scores.min() - 1)
        scores_NK[:, pipeline.classes_] = scores
        return scores_NK


def train_probe(samples: Samples, config: ProbeConfig, *, standardise: bool = True) -> Probe:
    """Trains a classifier.

    Args:
        samples: the training part.
        config: see `ProbeConfig`.
        standardise: False if the vectors are already standardised.

    Raises:
        DataError: only one class.
        UsageError: more neighbours than samples.
    """
    if len(np.unique(samples.labels_N)) < 2:
        raise DataError(f"{len(samples)} training videos of a single class. A probe needs two.")
    scale = StandardScaler() if standardise else FunctionTransformer()
    prepared = make_pipeline(scale, Normalizer()).fit(samples.vectors_ND)
    vectors_ND = prepared.transform(samples.vectors_ND)
    kind, many = CLASSIFIERS[config.method], vectors_ND.shape[1] > MANY * len(samples)
    if config.method == "knn" and config.value is not None and config.value > len(samples):
        raise UsageError(f"{config.value:g} neighbours of {len(samples)} training videos. Use fewer.")
    folds = min(SEARCH_FOLDS, _groups_of_rarest(samples))
    if searched := config.value is None and folds > 1:
        # Each training fold of the cross-validation must have at least k samples.
        values = [v for v in kind.values if config.method != "knn" or v <= len(samples) // 2]
        search = GridSearchCV(
            kind.build(kind.default, config.seed, many),
            {kind.parameter: values},
            cv=StratifiedGroupKFold(folds, shuffle=True, random_state=config.seed),
            n_jobs=config.workers,
        )
        search.fit(vectors_ND, samples.labels_N, groups=samples.groups_N)
        value, classifier = search.best_params_[kind.parameter], search.best_estimator_
    else:
        value = kind.default if config.value is None else config.value
        classifier = kind.build(value, config.seed, many).fit(vectors_ND, samples.labels_N)
    return Probe(make_pipeline(prepared, classifier), float(value), searched)


def _groups_of_rarest(samples: Samples) -> int:
    """Returns the number of source videos of the rarest class."""
    return min(
        len(np.unique(samples.groups_N[samples.labels_N == label])) for label in np.unique(samples.labels_N)
    )
