"""Annotated videos: all frames of a video at their original times, with a student's predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from transfer3d.data.container import BadVideo
from transfer3d.data.decode import VideoReader
from transfer3d.data.decoder import Decoder
from transfer3d.data.pixels import Frames
from transfer3d.data.transcode import write_film
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import UNKNOWN_FPS
from transfer3d.errors import UsageError
from transfer3d.evaluation.stream import Prediction
from transfer3d.files import atomic_path
from transfer3d.insight.pictures.annotated_film import AnnotatedFilm
from transfer3d.insight.pictures.figure_file import check_path
from transfer3d.insight.pictures.flow_colours import frame_as_rgb
from transfer3d.progress import track

MAX_LINES = 720
"""Maximum short side of an annotated video; larger videos are scaled down."""


def check_film_path(path: Path, videos: Iterable[str]) -> None:
    """Checks, before any work, that an annotated video can be written and replaces none of the videos.

    Raises:
        UsageError: the path does not end in .mp4, or is a folder or one of the videos.
        SetupError: the path cannot be written.
    """
    check_path(path, "films", (".mp4",))
    refuse_videos_as_pictures([path], videos)


def refuse_videos_as_pictures(pictures: Iterable[Path], videos: Iterable[str]) -> None:
    """Raises UsageError if an output would replace one of the input videos."""
    existing = [picture for picture in pictures if picture.exists()]
    for video in map(Path, videos if existing else ()):
        if video.exists() and (same := [picture for picture in existing if picture.samefile(video)]):
            raise UsageError(f"{same[0]} is an input video and would be replaced. Choose another path.")


def film_of_predictions(
    source: VideoSet,
    decoder: Decoder,
    predictions: Sequence[Prediction],
    classes: Sequence[str],
    path: Path,
    *,
    console: Console,
) -> None:
    """Writes the set's first video with the probabilities and the timeline beneath each frame.

    Args:
        source: with one video.
        decoder: to read it with.
        predictions: predictions of the whole video, in temporal order.
        classes: names of the scores.
        path: path of the annotated video, which is written atomically.
        console: for progress.

    Raises:
        DataError: the video cannot be decoded to its end.
        SetupError: the annotated video cannot be written.
    """
    name = source.keys[0]
    with decoder.open(source.open(0), name=name, channels=source.channels) as video:
        frames = timed_frames(video, name, lambda frames: map(frame_as_rgb, frames), MAX_LINES)
        write_annotated(
            path,
            (((pixels,), time_s) for pixels, time_s in frames),
            lambda height, width: AnnotatedFilm(height, width, predictions, classes),
            video,
            console=console,
        )


def timed_frames(
    video: VideoReader, name: str, convert: Callable[[Iterator[Frames]], Iterator[Frames]], short_side: int
) -> Iterator[tuple[Frames, float]]:
    """Yields a video's frames, converted, each with its time in seconds.

    Args:
        video: open.
        name: for messages.
        convert: converts frames one by one.
        short_side: larger frames are scaled down to it.

    Raises:
        DataError: frames cannot be decoded, or change their size.
    """
    shape: tuple[int, ...] | None = None
    frames = convert(video.stream(short_side=short_side))
    # A file may decode to more frames than it lists: `read` ignores those, too.
    for time_s, pixels in zip(video.seconds().tolist(), frames, strict=False):
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise BadVideo(f"{name}: its frames change their size")
        yield pixels, time_s


def write_annotated(
    path: Path,
    moments: Iterable[tuple[Sequence[Frames], float]],
    new_film: Callable[[int, int], AnnotatedFilm],
    video: VideoReader,
    *,
    console: Console,
) -> None:
    """Writes an annotated video frame by frame, atomically.

    Args:
        path: path of the annotated video.
        moments: the images of each time, one per column, and the time in seconds.
        new_film: builds the writer from the height and the width of the images.
        video: the source, for its rate and its number of frames.
        console: for progress.
    """

    def drawn() -> Iterator[tuple[Frames, float]]:
        film: AnnotatedFilm | None = None
        for pictures, time_s in moments:
            film = film or new_film(*pictures[0].shape[:2])
            yield film.frame(pictures, time_s), time_s

    with atomic_path(path) as partial:
        title = f"writing {path}"
        write_film(
            partial, track(drawn(), title, video.frames, console=console), fps=video.fps or UNKNOWN_FPS
        )
