"""Class activation maps of videos, as film strips and moving pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from transfer3d.data.clips import clip_of_file
from transfer3d.engine.distributed import gather_list, lost_processes, make_accelerator
from transfer3d.errors import UsageError
from transfer3d.files import atomic_path, refuse_unwritable
from transfer3d.insight.cam import Method, explain
from transfer3d.insight.pictures.animation import write_animation
from transfer3d.insight.pictures.overlay import heat_film
from transfer3d.progress import track
from transfer3d.run.inference.classifier import Classifier, load_classifier, open_and_name_dropped

FPS = 5
"""Slower than the videos: heat takes longer to read than a digit."""


@dataclass(frozen=True, kw_only=True)
class CamOptions:
    """How videos are explained.

    Attributes:
        target: name of the class in question; None = of each video the one with the highest score.
        method: see `class_map`.
        layer: see `class_map`.
        format: of the moving pictures.
    """

    target: str | None = None
    method: Method = "auto"
    layer: str | None = None
    format: Literal["gif", "mp4"] = "gif"


def explain_videos(
    file: Path, videos: Sequence[Path], options: CamOptions, *, out: Path, console: Console
) -> list[dict[str, Any]] | None:
    """Writes a film strip and a moving picture for the clip at the centre of each video.

    A video in a folder that is called like a class is taken to be of that class.

    Args:
        file: checkpoint with a classifier.
        videos: files, or folders of them.
        options: see there.
        out: folder; pictures are called like the videos, and replace those of an earlier run.
        console: for progress, and for the names of files that were left out.

    Returns:
        One row for each video, with the paths of its pictures; None but on the main process.

    Raises:
        UsageError: no such class, layer or video; or `out` is a file.
        WeightsError: the checkpoint has no classifier.
        DataError: none of the files is a video.
        SetupError: Grad-CAM without the `cam` extra, or the place cannot be written.
        NonFiniteError: the scores of a video are not finite.
    """
    if out.is_file():
        raise UsageError(f"{out} is a file. Name a folder for the pictures with -o.")
    refuse_unwritable(out / "pictures")
    classifier = load_classifier(file)
    target = None if options.target is None else classifier.number(options.target)
    accelerator = make_accelerator("fp32")
    source = open_and_name_dropped(videos, console)
    main = accelerator.is_main_process
    classifier.student.to(accelerator.device)
    named = list(zip(source.keys, picture_names(source.keys), strict=True))
    mine = named[accelerator.process_index :: accelerator.num_processes]
    with lost_processes(accelerator):
        rows = [
            _explain(classifier, Path(key), target, options, out / name)
            for key, name in track(mine, "explaining", len(mine), console=console, quiet=not main)
        ]
        rows = gather_list(accelerator, rows)
    accelerator.end_training()
    order = {key: number for number, key in enumerate(source.keys)}
    return sorted(rows, key=lambda row: order[row["video"]]) if main else None


def picture_names(keys: Sequence[str]) -> list[str]:
    """Returns a name for each path: the file's own, with a number where another had it before."""
    names: list[str] = []
    for key in keys:
        stem, number = Path(key).stem, 1
        name = stem
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _explain(
    classifier: Classifier, video: Path, target: int | None, options: CamOptions, picture: Path
) -> dict[str, Any]:
    classes = classifier.classes
    clip_u8 = clip_of_file(video, classifier.student.clip)
    true = video.parent.name if video.parent.name in classes else None
    found, strip = explain(
        classifier.student,
        clip_u8,
        classes,
        target=target,
        true=true,
        method=options.method,
        layer=options.layer,
    )
    film = heat_film(
        clip_u8.numpy(),
        found.heat.numpy(),
        title=found.headline(classes, true),
        label=f"evidence for {classes[found.target]}",
    )
    strip_path, film_path = (picture.with_name(f"{picture.name}.{kind}") for kind in ("png", options.format))
    with atomic_path(strip_path) as partial:
        partial.write_bytes(strip)
    write_animation(film_path, list(film), fps=FPS)
    return {
        "video": str(video),
        "true": true,
        "predicted": classes[found.predicted],
        "score": float(found.scores_K[found.predicted]),
        "class": classes[found.target],
        "class_score": float(found.scores_K[found.target]),
        "method": found.method,
        "layer": found.layer,
        "maps": list(found.evidence.shape),
        "cells": found.cells,
        "strip": str(strip_path),
        "film": str(film_path),
    }
