"""Probing protocols: official splits and leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console

from transfer3d.errors import UsageError
from transfer3d.evaluation.metrics import average_precisions, hit_share, known_mean
from transfer3d.insight.features.file import FeatureSet
from transfer3d.insight.probing.probe import Probe, ProbeConfig, samples_of, train_probe
from transfer3d.progress import track

Split = tuple[FeatureSet, FeatureSet]


def check_splits(splits: Sequence[Split]) -> None:
    """Raises UsageError if a test part does not belong to its training part, or equals it."""
    for number, (train, test) in enumerate(splits, 1):
        where = f"split {number}"
        if train.metadata.checkpoint_sha256 != test.metadata.checkpoint_sha256:
            reason = f"{train.metadata.checkpoint} and {test.metadata.checkpoint} are different checkpoints"
        elif list(train.classes) != list(test.classes):
            reason = f"{train.metadata.data} and {test.metadata.data} have different classes"
        elif train.metadata.data_digest == test.metadata.data_digest:
            reason = f"both have the same videos ({test.metadata.data}, {test.metadata.split})"
        elif train.metadata.views != test.metadata.views:
            reason = f"they come from different views ({train.metadata.views}, {test.metadata.views})"
        else:
            continue
        raise UsageError(f"{where}: training and test features do not match: {reason}.")


def probe_splits(splits: Sequence[Split], layer: str, config: ProbeConfig) -> dict[str, Any]:
    """Returns accuracy, top-3 and mean average precision, averaged over official splits, JSON-able.

    P3D, tables 3 (UCF101, three splits) and 4 (ActivityNet). A video of several classes is trained on with
    the first, and predicting any of them is correct. With at most three classes there is no top-3.

    Args:
        splits: training and test part of each.
        layer: name of the layer.
        config: settings of the probe.

    Raises:
        UsageError: the parts do not belong together, or there is no such layer.
        DataError: a video has no class.
    """
    check_splits(splits)
    folds = []
    for train, test in splits:
        train_samples, test_samples = samples_of(train, layer), samples_of(test, layer)
        probe = train_probe(train_samples, config)
        scores_NK = torch.from_numpy(probe.scores_NK(test_samples))
        targets_NK = torch.from_numpy(test_samples.targets_NK).long()
        folds.append(
            {
                "accuracy": probe.accuracy(test_samples),
                **({"top3": hit_share(scores_NK, targets_NK, 3)} if len(train.classes) > 3 else {}),
                "mean_ap": known_mean(average_precisions(scores_NK, targets_NK)),
                **_parameter(probe),
                "train": len(train_samples),
                "test": len(test_samples),
            }
        )
    names = [name for name in ("accuracy", "top3", "mean_ap") if name in folds[0]]
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in names}
    return {"layer": layer, **means, "folds": folds}


def probe_leave_one_out(
    features: FeatureSet, layer: str, config: ProbeConfig, console: Console | None = None
) -> dict[str, Any]:
    """Returns the leave-one-out accuracy, JSON-able.

    The protocol of YUPENN and Dynamic Scene (P3D, section 5). Clips of one source video are left out
    together. C or k is chosen each time without the left-out video.

    Args:
        features: features of the whole set.
        layer: name of the layer.
        config: settings of the probe.
        console: for progress.

    Raises:
        UsageError: there is no such layer.
        DataError: a video has no class, or all but one have the same.
    """
    samples = samples_of(features, layer)
    sources = np.unique(samples.groups_N)
    correct = np.zeros(len(samples), dtype=bool)
    progress = track(
        sources,
        "leaving one out",
        len(sources),
        console=console or Console(stderr=True),
        quiet=console is None,
    )
    values = []
    for source in progress:
        left_out = samples.groups_N == source
        probe = train_probe(samples.only(~left_out), config)
        test_samples = samples.only(left_out)
        correct[left_out] = probe.correct_N(test_samples)
        values.append(probe.value)
    per_class = {
        name: float(correct[samples.labels_N == label].mean())
        for label, name in enumerate(features.classes)
        if (samples.labels_N == label).any()
    }
    return {
        "layer": layer,
        "accuracy": float(correct.mean()),
        "videos": len(samples),
        "left_out": len(sources),
        "values": {f"{value:g}": values.count(value) for value in sorted(set(values))},
        "per_class": per_class,
    }


def _parameter(probe: Probe) -> dict[str, Any]:
    return {"value": probe.value, "searched": probe.searched}
