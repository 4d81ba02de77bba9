"""Action similarity, as in ASLAN (P3D, section 5): do two videos show the same action?

Pairs are given as CSV with the columns `first`, `second` (keys of videos, as in the file of features), `same`
(1 or 0) and `fold` (a number): each fold is tested with a classifier trained on the others. In ASLAN's
`View2.mat` they are columns 1 to 3 of its ten tables, whose number is the fold.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from transfer3d.errors import DataError
from transfer3d.files import read_regular
from transfer3d.insight.features.file import FeatureSet
from transfer3d.insight.probing.probe import ProbeConfig, Samples, train_probe
from transfer3d.insight.probing.similarities import NOT_COMPARABLE, SIMILARITIES, pair_vectors

COLUMNS = ("first", "second", "same", "fold")
MAX_BYTES = 1 << 28
"""Maximum size of a list of pairs."""
FOLD = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Pair:
    """The indices of two videos, whether they show the same action, and their fold."""

    first: int
    second: int
    same: bool
    fold: int


def read_pairs(path: Path, keys: Sequence[str]) -> list[Pair]:
    """Reads a list of pairs.

    Args:
        path: CSV, UTF-8; see above.
        keys: keys of the videos.

    Raises:
        DataError: a line is invalid, a video is unknown, or there are fewer than two folds.
    """
    number_of = {key: number for number, key in enumerate(keys)}
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Give a CSV file of pairs.") from error
    pairs: list[Pair] = []
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
            raise DataError(
                f"{path}: no column {', '.join(missing)}. Its first line must be {','.join(COLUMNS)}."
            )
        for row in table:
            where = f"{path}, line {table.line_num}"
            for name in ("first", "second"):
                if row[name] not in number_of:
                    raise DataError(f"{where}: no features of the video {row[name]!r}. Extract them.")
            if row["same"] not in ("0", "1") or not FOLD.fullmatch(row["fold"] or ""):
                raise DataError(f"{where}: `same` must be 0 or 1, `fold` a number.")
            first, second = number_of[row["first"]], number_of[row["second"]]
            pairs.append(Pair(first, second, row["same"] == "1", int(row["fold"])))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read ({error}). Give a CSV file of pairs.") from error
    if len({pair.fold for pair in pairs}) < 2:
        raise DataError(f"{path}: {len(pairs)} pairs in fewer than two folds. Each is tested by the others.")
    return pairs


def probe_pairs(
    features: FeatureSet, layers: Sequence[str], pairs: Sequence[Pair], config: ProbeConfig
) -> dict[str, Any]:
    """Returns accuracy and area under the ROC curve, averaged over the folds, JSON-able.

    A pair is represented by 12 similarities of each layer (see `similarities`), standardised by the training
    folds (as in C3D), divided by the vector's norm (as in P3D), and classified by a linear SVM. C is chosen
    by cross-validation over the training folds. P3D uses prob, pool5, res5c and res4b35: 48 numbers. In a
    ResNet the mean of res5c over T, H and W is pool5; `res5c@7` keeps its positions.

    Args:
        features: features of the videos.
        layers: see above.
        pairs: see `read_pairs`.
        config: settings of the probe.

    Raises:
        UsageError: there is no such layer, or it has negative values.
        DataError: the training folds have only same or only different pairs.
    """
    vectors_PS = pair_vectors(features, layers, [p.first for p in pairs], [p.second for p in pairs]).numpy()
    fold_P = np.array([pair.fold for pair in pairs])
    same_P = np.array([pair.same for pair in pairs])
    samples = Samples(vectors_PS, same_P.astype(np.int64), fold_P, np.stack([~same_P, same_P], 1))
    folds = []
    for fold in np.unique(fold_P):
        probe = train_probe(samples.only(fold_P != fold), config)
        test_samples = samples.only(fold_P == fold)
        scores_P = _scores(probe.pipeline, test_samples.vectors_ND)
        both = len(np.unique(test_samples.labels_N)) == 2
        folds.append(
            {
                "fold": int(fold),
                "pairs": len(test_samples),
                "accuracy": probe.accuracy(test_samples),
                "auc": float(roc_auc_score(test_samples.labels_N, scores_P)) if both else None,
                "value": probe.value,
                "searched": probe.searched,
            }
        )
    accuracies = [fold["accuracy"] for fold in folds]
    areas = [fold["auc"] for fold in folds if fold["auc"] is not None]
    return {
        "layers": list(layers),
        "similarities": list(SIMILARITIES),
        "note": NOT_COMPARABLE,
        "accuracy": float(np.mean(accuracies)),
        "standard_error": float(np.std(accuracies, ddof=1) / np.sqrt(len(folds))),
        "auc": float(np.mean(areas)) if areas else None,
        "videos_in_several_folds": _shared(pairs),
        "folds": folds,
    }


def _scores(pipeline: Any, vectors_PS: np.ndarray) -> np.ndarray:
    if hasattr(pipeline, "decision_function"):
        return pipeline.decision_function(vectors_PS)
    return pipeline.predict_proba(vectors_PS)[:, 1]


def _shared(pairs: Sequence[Pair]) -> int:
    """Counts videos in more than one fold: 0 in ASLAN, whose folds have different actions."""
    folds: dict[int, set[int]] = {}
    for pair in pairs:
        for video in (pair.first, pair.second):
            folds.setdefault(video, set()).add(pair.fold)
    return sum(len(labels) > 1 for labels in folds.values())
