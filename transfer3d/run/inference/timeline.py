"""Predictions over the course of long videos: a sliding window over each, decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.data.augment import decode_side
from transfer3d.data.decode import VideoReader
from transfer3d.data.decoder import Decoder
from transfer3d.data.pixels import Frames
from transfer3d.data.views import UNKNOWN_FPS
from transfer3d.engine.distributed import gather_list
from transfer3d.errors import UsageError
from transfer3d.evaluation.micro_batches import first_size
from transfer3d.evaluation.predict import best_classes
from transfer3d.evaluation.stream import Prediction, stream
from transfer3d.insight.pictures.figure_file import check_figure_path, write_figure
from transfer3d.insight.pictures.figures import new_figure
from transfer3d.insight.pictures.timeline import draw_timeline
from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent
from transfer3d.nn.memory_format import to_channels_last
from transfer3d.progress import track
from transfer3d.run.inference.film import check_film_path, film_of_predictions
from transfer3d.run.inference.predict import class_rows
from transfer3d.run.inference.session import inference_session

MIN_WINDOW_S = 1.0


@dataclass(frozen=True, kw_only=True)
class TimelineOptions:
    """Options of the sliding window.

    Attributes:
        window_s: length of the window, seconds; None = the span of one clip, at least a second.
        stride_s: from one window to the next, seconds; None = half a window.
        clips: clips per window; None = as many as cover it.
        top: number of classes per window.
        plot: file for the figure, .png or .svg; None = no figure.
        film: .mp4 file for a copy of the video with the classes beneath each frame; None = no video.
    """

    window_s: float | None = None
    stride_s: float | None = None
    clips: int | None = None
    top: int = 1
    plot: Path | None = None
    film: Path | None = None


def predict_timelines(
    file: Path, videos: Sequence[Path], options: TimelineOptions, *, precision: str, console: Console
) -> list[dict[str, Any]]:
    """Returns for each video its path and its windows: start and end in seconds, and the best classes.

    Frames are decoded once, in order; only those of one window are in memory.

    Args:
        file: checkpoint with a classifier.
        videos: files, or folders of them; each process takes its share.
        options: see `TimelineOptions`.
        precision: "auto", "bf16" or "fp32".
        console: for progress, and for the names of skipped files.

    Raises:
        UsageError: a duration is not positive; `plot` or `film` has a wrong suffix, is requested for several
            videos, or is the video itself; or the student does not take RGB.
        SetupError: `plot` or `film` cannot be written.
        WeightsError: the checkpoint has no classifier.
        DataError: none of the files is a video, or one cannot be decoded to its end.
    """
    if options.plot is not None:
        check_figure_path(options.plot)
    with inference_session(file, videos, precision=precision, console=console) as session:
        source, accelerator, names = session.open_files(videos), session.accelerator, session.classes
        for name, path in (("--plot", options.plot), ("--save-video", options.film)):
            if path is not None and len(source) > 1:
                raise UsageError(f"{name} supports one video, not {len(source)}. Name one.")
        if options.film is not None:
            check_film_path(options.film, source.keys)
        to_channels_last(session.student)
        share = range(accelerator.process_index, len(source), accelerator.num_processes)
        one_video = len(share) == 1  # then progress counts its frames
        timelines: list[tuple[str, list[Prediction]]] = []
        decoder = Decoder()
        for index in track(
            share, "predicting", len(share), console=console, quiet=one_video or not session.is_main
        ):
            frames_console = console if one_video and session.is_main else Console(quiet=True)
            with accelerator.autocast():
                predictions = list(
                    _predictions(
                        session.student,
                        decoder.open(source.open(index), name=source.keys[index], channels=source.channels),
                        source.keys[index],
                        options,
                        frames_console,
                    )
                )
            timelines.append((source.keys[index], predictions))
        by_key = dict(gather_list(accelerator, timelines))
        if options.plot is not None and session.is_main:
            _plot(by_key[source.keys[0]], names, source.keys[0], options.plot)
        if options.film is not None and session.is_main:
            film_of_predictions(source, decoder, by_key[source.keys[0]], names, options.film, console=console)
    return [
        {"video": key, "windows": [_row(prediction, names, options.top) for prediction in by_key[key]]}
        for key in source.keys
    ]


def _predictions(
    student: VideoStudent,
    video: AbstractContextManager[VideoReader],
    name: str,
    options: TimelineOptions,
    console: Console,
) -> Iterator[Prediction]:
    clip = student.clip
    with video as opened:
        clip_s = clip.units * clip.window / (opened.fps or UNKNOWN_FPS)
        window_s = options.window_s or max(clip_s, MIN_WINDOW_S)
        clips = options.clips or math.ceil(window_s / clip_s)
        size = first_size(clip, next(student.parameters()).device)
        frames = track(_timed_frames(opened, clip), name, opened.frames, console=console)
        yield from stream(
            student,
            frames,
            window=window_s,
            stride=options.stride_s,
            clips=options.clips,
            together=max(size // clips, 1),
        )


def _timed_frames(video: VideoReader, clip: ClipSpec) -> Iterator[tuple[float, Frames]]:
    # A file may decode to more frames than it lists: `read` does not know those either.
    yield from zip(video.seconds().tolist(), video.stream(short_side=decode_side(clip)), strict=False)


def _row(prediction: Prediction, names: Sequence[str], top: int) -> dict[str, Any]:
    return {
        "start": prediction.start,
        "end": prediction.end,
        "top": class_rows(*best_classes(prediction.scores_K, names, top)),
    }


def _plot(predictions: Sequence[Prediction], names: Sequence[str], title: str, path: Path) -> None:
    figure = new_figure(9, 4)
    draw_timeline(figure.subplots(), predictions, names, title=title)
    write_figure(figure, path)
