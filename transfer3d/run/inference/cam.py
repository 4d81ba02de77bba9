"""Class activation maps of videos, as film strips and moving pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from torch import Tensor

from transfer3d.engine.distributed import gather_list
from transfer3d.errors import UsageError
from transfer3d.evaluation.inference import decoded_videos
from transfer3d.files import atomic_path, refuse_unwritable
from transfer3d.insight.cam import Method, explain
from transfer3d.insight.pictures.animation import write_animation
from transfer3d.insight.pictures.overlay import heat_film
from transfer3d.run.inference.session import InferenceSession, inference_session

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
        One row for each video, with the paths of its pictures; None on other processes.

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
    with inference_session(file, console=console) as session:
        target = None if options.target is None else session.class_index(options.target)
        source = session.open_files(videos)
        names = dict(zip(source.keys, picture_names(source.keys), strict=True))
        batches = decoded_videos(
            source, session.student.clip, session.accelerator, title="explaining", console=console
        )
        rows = {
            key: _explain(session, key, batch.clips[0], target, options, out / names[key])
            for batch in batches
            for key in batch.keys
        }
        rows = dict(gather_list(session.accelerator, list(rows.items())))
    return [rows[key] for key in source.keys] if session.is_main else None


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
    session: InferenceSession,
    video: str,
    clip_u8: Tensor,
    target: int | None,
    options: CamOptions,
    picture: Path,
) -> dict[str, Any]:
    classes, folder = session.classes, Path(video).parent.name
    true = folder if folder in classes else None
    class_map, strip = explain(
        session.student,
        clip_u8,
        classes,
        target=target,
        true=true,
        method=options.method,
        layer=options.layer,
    )
    film = heat_film(
        clip_u8.numpy(),
        class_map.heat.numpy(),
        title=class_map.headline(classes, true),
        label=f"evidence for {classes[class_map.target]}",
    )
    strip_path, film_path = (picture.with_name(f"{picture.name}.{kind}") for kind in ("png", options.format))
    with atomic_path(strip_path) as partial:
        partial.write_bytes(strip)
    write_animation(film_path, list(film), fps=FPS)
    return {
        "video": video,
        "true": true,
        "predicted": classes[class_map.predicted],
        "score": float(class_map.scores_K[class_map.predicted]),
        "class": classes[class_map.target],
        "class_score": float(class_map.scores_K[class_map.target]),
        "method": class_map.method,
        "layer": class_map.layer,
        "maps": list(class_map.evidence.shape),
        "cells": class_map.cells,
        "strip": str(strip_path),
        "film": str(film_path),
    }
