"""Class activation maps of videos, as film strips, animations and annotated videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from torch import Tensor

from transfer3d.data.decoder import Decoder
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import gather_list
from transfer3d.errors import UsageError
from transfer3d.evaluation.inference import decoded_videos
from transfer3d.files import atomic_path, refuse_unwritable
from transfer3d.insight.cam import Method, class_map
from transfer3d.insight.pictures.animation import write_animation
from transfer3d.insight.pictures.overlay import heat_film, heat_strip
from transfer3d.models.checkpoint import load
from transfer3d.run.inference.cam_film import film_of_maps
from transfer3d.run.inference.film import refuse_videos_as_pictures
from transfer3d.run.inference.session import InferenceSession, inference_session

FPS = 5
"""Frame rate of animations, slower than the videos so that the heat maps can be read."""


@dataclass(frozen=True, kw_only=True)
class CamOptions:
    """Options of the class activation maps.

    Attributes:
        target: name of the class to explain; None = each video's class with the highest score.
        method: see `class_map`.
        layer: see `class_map`.
        format: "gif" = an animation of the centre clip; "mp4" = the whole video, window by window.
        beside: another checkpoint, whose heat map is drawn beside the first one's (V4D, figures 3 and 4).
    """

    target: str | None = None
    method: Method = "auto"
    layer: str | None = None
    format: Literal["gif", "mp4"] = "gif"
    beside: Path | None = None


def explain_videos(
    file: Path, videos: Sequence[Path], options: CamOptions, *, out: Path, console: Console
) -> list[dict[str, Any]] | None:
    """Writes a film strip of each video's centre clip, and an animation of it or of the whole video.

    A video in a folder with the name of a class is labelled with that class.

    Args:
        file: checkpoint with a classifier.
        videos: files, or folders of them.
        options: see `CamOptions`.
        out: folder; output files are named after the videos, and replace those of an earlier run.
        console: for progress, and for the names of skipped files.

    Returns:
        One row for each video, with the paths of its images; None on other processes.

    Raises:
        UsageError: no such class, layer or video; `out` is a file; or an output would replace a video.
        WeightsError: the checkpoint has no classifier.
        DataError: none of the files is a video.
        SetupError: Grad-CAM without the `cam` extra, or `out` cannot be written.
        NonFiniteError: the scores of a video are not finite.
    """
    if out.is_file():
        raise UsageError(f"{out} is a file. Name a folder for the images with -o.")
    refuse_unwritable(out / "pictures")
    with inference_session(file, videos, console=console) as session:
        networks = [session]
        if options.beside is not None:
            networks.append(_open_beside(session, options.beside))
        targets = [None if options.target is None else one.class_index(options.target) for one in networks]
        source = session.open_files(videos)
        names = dict(zip(source.keys, picture_names(source.keys), strict=True))
        refuse_videos_as_pictures([out / f"{name}.{options.format}" for name in names.values()], source.keys)
        batches = decoded_videos(
            source, session.student.clip, session.accelerator, title="explaining", console=console
        )
        rows = {
            key: _explain(networks, key, batch.clips[0], targets, options, out / names[key])
            for batch in batches
            for key in batch.keys
        }
        if options.format == "mp4":
            _write_films(networks, source, targets, options, rows)
        rows = dict(gather_list(session.accelerator, list(rows.items())))
    return [rows[key] for key in source.keys] if session.is_main else None


def _write_films(
    networks: Sequence[InferenceSession],
    source: VideoSet,
    targets: Sequence[int | None],
    options: CamOptions,
    rows: dict[str, dict[str, Any]],
) -> None:
    """Writes the annotated videos of this process's share, and adds their windows to the rows."""
    decoder, session = Decoder(), networks[0]
    console = session.console if session.is_main else Console(quiet=True)
    for index in (index for index, key in enumerate(source.keys) if key in rows):
        row = rows[source.keys[index]]
        row["windows"] = film_of_maps(
            networks, source, index, decoder, targets=targets, method=options.method, layer=options.layer,
            path=Path(row["film"]), console=console,
        )  # fmt: skip


def picture_names(keys: Sequence[str]) -> list[str]:
    """Returns a name for each path: the file's own, with a number if it is already taken."""
    names: list[str] = []
    for key in keys:
        stem, number = Path(key).stem, 1
        name = stem
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _open_beside(session: InferenceSession, file: Path) -> InferenceSession:
    """Opens a second checkpoint in the same session.

    Raises:
        UsageError: it takes other clips, or has no classifier.
        WeightsError: it cannot be read.
    """
    student = load(file).to(session.accelerator.device)
    if student.clip.channels != session.student.clip.channels:
        raise UsageError(
            f"of {session.file} and {file} only one is for optical flow. Compare two students of a kind."
        )
    ours, theirs = (replace(one.clip, mean=(0.0,), std=(1.0,)) for one in (session.student, student))
    if ours != theirs:
        raise UsageError(f"{file} takes other clips than {session.file}: {theirs} instead of {ours}.")
    if student.num_classes == 0:
        raise UsageError(f"{file} has no classifier, so there is no class to explain.")
    return replace(session, file=file, student=student)


def _explain(
    networks: Sequence[InferenceSession],
    video: str,
    clip_u8: Tensor,
    targets: Sequence[int | None],
    options: CamOptions,
    picture: Path,
) -> dict[str, Any]:
    """Writes the images of a video; returns its row, with a second network's under `beside`."""
    folder = Path(video).parent.name
    lines, heats, rows, shown = [], {}, [], []
    for session, target in zip(networks, targets, strict=True):
        classes, name = session.classes, session.student.model_name
        true = folder if folder in classes else None
        found = class_map(session.student, clip_u8, target=target, method=options.method, layer=options.layer)
        line = found.headline(classes, true)
        lines.append(line if len(networks) == 1 else f"{name}: {line}")
        heats["heat" if len(networks) == 1 else name if name not in heats else f"{name}, beside"] = (
            found.heat.numpy()
        )
        shown.append(classes[found.target])
        rows.append(
            {
                "video": video,
                "true": true,
                "predicted": classes[found.predicted],
                "score": float(found.scores_K[found.predicted]),
                "class": classes[found.target],
                "class_score": float(found.scores_K[found.target]),
                "method": found.method,
                "layer": found.layer,
                "maps": list(found.evidence.shape),
                "cells": found.cells,
                "speaks": found.has_evidence,
            }
        )
    title, label = "\n".join(lines), f"evidence for {' and '.join(dict.fromkeys(shown))}"
    strip_path, film_path = (picture.with_name(f"{picture.name}.{kind}") for kind in ("png", options.format))
    with atomic_path(strip_path) as partial:
        partial.write_bytes(heat_strip(clip_u8.cpu().numpy(), heats, title=title, label=label))
    if options.format == "gif":
        film = heat_film(clip_u8.cpu().numpy(), heats, title=title, label=label)
        write_animation(film_path, list(film), fps=FPS)
    row, *others = rows
    beside = {"beside": others[0]} if others else {}
    return {**row, **beside, "strip": str(strip_path), "film": str(film_path)}
