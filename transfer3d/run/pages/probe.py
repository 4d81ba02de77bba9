"""Probes files of features: official splits, leave-one-out, pairs of videos, accuracy over PCA dimensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.errors import UsageError, did_you_mean
from transfer3d.files import write_text
from transfer3d.insight.features.file import load_features
from transfer3d.insight.pictures.figure_file import check_figure_path, write_figure
from transfer3d.insight.probing.curve import curve_figure, probe_curve
from transfer3d.insight.probing.pairs import probe_pairs, read_pairs
from transfer3d.insight.probing.probe import ProbeConfig
from transfer3d.insight.probing.protocols import probe_leave_one_out, probe_splits
from transfer3d.run.output_file import refuse_folder

PROTOCOLS = ("splits", "leave-one-out", "pairs", "pca")


def probe_files(
    files: Sequence[Path],
    *,
    tests: Sequence[Path],
    protocol: str,
    layers: Sequence[str] | None,
    pairs: Path | None,
    config: ProbeConfig,
    out: Path | None,
    plot: Path | None,
    console: Console,
) -> dict[str, Any]:
    """Returns the report, JSON-able.

    Args:
        files: files of features; the training part of each split.
        tests: the test part of each split, in the same order.
        protocol: one of `PROTOCOLS`.
        layers: names of layers; None = pool5, for "pairs" all layers of the file.
        pairs: CSV for "pairs"; see `probe_pairs`.
        config: settings of the probe.
        out: JSON file for the report; None = no file.
        plot: PNG or SVG file for the curve of "pca"; None = no figure.
        console: for progress.

    Raises:
        UsageError: the protocol does not support these files, a layer does not exist, `out` is a folder, or
            `plot` is not a figure file.
        DataError: a file is damaged, or a video has no class.
        SetupError: `out` or `plot` cannot be written.
    """
    _check(files, tests, protocol, pairs, plot)
    if out is not None:
        refuse_folder(out, "a JSON file")
    if plot is not None:
        check_figure_path(plot)
    trained, tested = [load_features(path) for path in files], [load_features(path) for path in tests]
    splits = list(zip(trained, tested, strict=False))
    first = trained[0]
    chosen_layers = layers or (list(first.layers) if protocol == "pairs" else ["pool5"])
    if pairs is not None:
        results = [probe_pairs(first, chosen_layers, read_pairs(pairs, first.keys), config)]
    elif protocol == "leave-one-out":
        results = [probe_leave_one_out(first, layer, config, console) for layer in chosen_layers]
    elif protocol == "pca":
        results = [probe_curve(splits, layer, config) for layer in chosen_layers]
    else:
        results = [probe_splits(splits, layer, config) for layer in chosen_layers]
    chance = 0.5 if pairs is not None else 1 / len(first.classes)
    report = {
        "protocol": protocol,
        "method": config.method,
        "features": [str(path) for path in files],
        "test": [str(path) for path in tests],
        "checkpoint_sha256": first.metadata.checkpoint_sha256,
        "student": first.metadata.student,
        "classes": len(first.classes),
        "chance": chance,
        "results": results,
    }
    if plot is not None:
        write_figure(curve_figure(results, chance=chance), plot)
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")
    return report


def _check(
    files: Sequence[Path], tests: Sequence[Path], protocol: str, pairs: Path | None, plot: Path | None
) -> None:
    """Raises UsageError if the protocol does not support these files."""
    if protocol not in PROTOCOLS:
        near = did_you_mean(protocol, PROTOCOLS)
        raise UsageError(f"no protocol '{protocol}'{near}: there are {', '.join(PROTOCOLS)}.")
    if protocol in ("splits", "pca") and len(files) != len(tests):
        raise UsageError(
            f"{len(files)} training and {len(tests)} test files of features: give one --test for each, "
            "or choose --protocol leave-one-out or pairs."
        )
    if protocol in ("leave-one-out", "pairs") and (len(files) > 1 or tests):
        raise UsageError(f"--protocol {protocol} takes one file of features, and no --test.")
    if (protocol == "pairs") != (pairs is not None):
        raise UsageError("--protocol pairs and --pairs FILE.csv must be used together.")
    if plot is not None and protocol != "pca":
        raise UsageError("--plot is only for --protocol pca.")
