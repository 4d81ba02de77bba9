"""Class activation maps over a whole video, window by window, as an annotated video.

The video is decoded twice: once for the maps, which are small, and once for the frames. So the heat of a
class is normalised by its highest value in the whole video, with only one window's frames in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from transfer3d.data.augment import crop_frames, decode_side, evaluation_transform
from transfer3d.data.decode import VideoReader
from transfer3d.data.decoder import Decoder
from transfer3d.data.pixels import Frames
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan, Views
from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.cam import ClassMap, Method, class_map, enlarged
from transfer3d.insight.pictures.annotated_film import AnnotatedFilm
from transfer3d.insight.pictures.flow_colours import frame_as_rgb
from transfer3d.insight.pictures.overlay import overlay
from transfer3d.insight.pictures.timeline import find_leaders
from transfer3d.layout import ClipSpec
from transfer3d.progress import track
from transfer3d.run.inference.film import timed_frames, write_annotated
from transfer3d.run.inference.session import InferenceSession


@dataclass(frozen=True)
class _Window:
    """One window of a video, and its class map for each network.

    Attributes:
        first: index of its first frame in the video.
        indices: indices of the clip's frames, relative to the first, [U * T].
        start_s: seconds.
        end_s: seconds.
        maps: results of each network, without the heat maps.
    """

    first: int
    indices: NDArray[np.int64]
    start_s: float
    end_s: float
    maps: list[ClassMap]


def film_of_maps(
    networks: Sequence[InferenceSession],
    source: VideoSet,
    index: int,
    decoder: Decoder,
    *,
    targets: Sequence[int | None],
    method: Method,
    layer: str | None,
    path: Path,
    console: Console,
) -> list[dict[str, Any]]:
    """Writes an annotated video: the networks' input at the left, the heat map of each network at its right.

    Windows do not overlap, and each is as long as one clip; the last one ends with the video.

    Args:
        networks: all with the same clip spec.
        source: the videos.
        index: index of the video.
        decoder: to read it with.
        targets: class for each network; None = each window's class with the highest score.
        method: see `class_map`.
        layer: see `class_map`.
        path: path of the annotated video, which is written atomically.
        console: for progress.

    Returns:
        One row for each window: start and end in seconds, the first network's prediction, and its class.

    Raises:
        DataError: the video cannot be decoded to its end.
        SetupError: the annotated video cannot be written, or captum is missing.
        UsageError: see `class_map`.
        NonFiniteError: the scores of a window are not finite.
    """
    spec, name = networks[0].student.clip, source.keys[index]

    def opened() -> Any:
        return decoder.open(source.open(index), name=name, channels=source.channels)

    with opened() as video:
        frames = track(_cropped(video, spec), f"explaining {name}", video.frames, console=console)
        windows = [
            _explain(networks, targets, method, layer, first, held)
            for first, held in _in_windows(frames, spec.units * spec.window)
        ]
    with opened() as video:
        _write(path, video, networks, windows, console)
    return [_row(networks[0].classes, window) for window in windows]


def _cropped(video: VideoReader, spec: ClipSpec) -> Iterator[tuple[Frames, float]]:
    """Yields frames [size, size, C] as the networks see them."""
    transform = evaluation_transform(spec)

    def crop(frames: Iterator[Frames]) -> Iterator[Frames]:
        for pixels in frames:
            yield crop_frames(transform, pixels[None])[0][0].permute(1, 2, 0).numpy()

    return timed_frames(video, crop, decode_side(spec))


def _in_windows(
    frames: Iterable[tuple[Frames, float]], span: int
) -> Iterator[tuple[int, list[tuple[Frames, float]]]]:
    """Yields windows of `span` frames, each with its first index; the last one may overlap the previous."""
    held: deque[tuple[Frames, float]] = deque(maxlen=span)
    count = 0
    for count, frame in enumerate(frames, 1):
        held.append(frame)
        if count % span == 0:
            yield count - span, list(held)
    if count % span:
        yield max(count - span, 0), list(held)


def _explain(
    networks: Sequence[InferenceSession],
    targets: Sequence[int | None],
    method: Method,
    layer: str | None,
    first: int,
    frames: Sequence[tuple[Frames, float]],
) -> _Window:
    indices, scales = ViewPlan().indices(len(frames), 0, networks[0].student.clip)
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in frames])).permute(0, 3, 1, 2)
    clip_u8 = Views(pixels, torch.from_numpy(indices), torch.from_numpy(scales)).clips()[0]
    maps = [
        class_map(session.student, clip_u8, target=target, method=method, layer=layer)
        for session, target in zip(networks, targets, strict=True)
    ]
    times = [time_s for _, time_s in frames]
    frame_s = (times[-1] - times[0]) / max(len(times) - 1, 1)
    small = [replace(found, heat=torch.empty(0)) for found in maps]
    return _Window(first, indices.reshape(-1), times[0], times[-1] + frame_s, small)


def _write(
    path: Path,
    video: VideoReader,
    networks: Sequence[InferenceSession],
    windows: Sequence[_Window],
    console: Console,
) -> None:
    spec = networks[0].student.clip
    predictions = [Prediction(w.start_s, w.end_s, w.maps[0].scores_K) for w in windows]
    leaders, highest = find_leaders(predictions), _highest(windows)
    sizes = (spec.frames, spec.size, spec.size)

    @lru_cache(1)
    def heats(number: int) -> list[NDArray[np.float32]]:
        """Returns [U * T, H, W], 0..1, of each network."""
        maps = windows[number].maps
        return [
            (_by_unit(found, spec, sizes).clamp(min=0) / highest[network, found.target]).numpy()
            for network, found in enumerate(maps)
        ]

    def moments() -> Iterator[tuple[list[Frames], float]]:
        for count, (pixels, time_s) in enumerate(_cropped(video, spec)):
            number = leaders.at(time_s)
            window = windows[number]
            nearest = int(np.abs(window.indices - (count - window.first)).argmin())
            picture = frame_as_rgb(pixels)
            yield [picture, *(overlay(picture, heat[nearest]) for heat in heats(number))], time_s

    def caption(number: int) -> str:
        maps = windows[number].maps
        parts = [
            f"{session.classes[found.target]}{'' if found.has_evidence else ' (none)'}"
            for session, found in zip(networks, maps, strict=True)
        ]
        return f"bright: evidence for {' and, at the right, '.join(parts)}"

    def new_film(height: int, width: int) -> AnnotatedFilm:
        return AnnotatedFilm(
            height, width, predictions, networks[0].classes, columns=1 + len(networks), caption=caption
        )

    write_annotated(path, moments(), new_film, video, console=console)


def _by_unit(found: ClassMap, spec: ClipSpec, sizes: tuple[int, int, int]) -> Tensor:
    evidence = found.evidence if spec.units > 1 else found.evidence[None]
    return enlarged(evidence, sizes).flatten(0, 1)


def _highest(windows: Sequence[_Window]) -> dict[tuple[int, int], float]:
    """Returns the highest evidence in the video, by network and class; a tiny number if there is none."""
    highest: dict[tuple[int, int], float] = {}
    for window in windows:
        for network, found in enumerate(window.maps):
            key, value = (network, found.target), float(found.evidence.max())
            highest[key] = max(highest.get(key, torch.finfo(torch.float32).tiny), value)
    return highest


def _row(classes: Sequence[str], window: _Window) -> dict[str, Any]:
    found = window.maps[0]
    return {
        "start": window.start_s,
        "end": window.end_s,
        "predicted": classes[found.predicted],
        "score": float(found.scores_K[found.predicted]),
        "class": classes[found.target],
        "class_score": float(found.scores_K[found.target]),
    }
