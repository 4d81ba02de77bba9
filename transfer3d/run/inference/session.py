"""The setup shared by all inference commands: checkpoint, videos and processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console

from transfer3d.data.flow import FlowFormat, import_opencv
from transfer3d.data.flow_of_videos import FlowOfVideos
from transfer3d.data.folder import is_video, videos_under
from transfer3d.data.source import existing_paths, open_files, open_videos
from transfer3d.data.videoset import VideoSet, check_channels
from transfer3d.engine.distributed import make_accelerator, resolve_precision, watched_processes
from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.evaluation.predict import class_names
from transfer3d.evaluation.scoring import refuse_dropped
from transfer3d.files import sha256_file
from transfer3d.layout import FLOW_CHANNELS, RGB_CHANNELS
from transfer3d.models.checkpoint import load
from transfer3d.models.student import VideoStudent
from transfer3d.weights.hub import WEIGHTS_NAME, locate
from transfer3d.weights.metadata import read_metadata

if TYPE_CHECKING:
    from accelerate import Accelerator

LISTED = 3
"""Number of classes that a message lists."""


@dataclass(frozen=True)
class InferenceSession:
    """A loaded checkpoint with its accelerator and console.

    Attributes:
        file: path of the checkpoint, as given.
        student: on the accelerator's device, in eval mode.
        accelerator: device, precision and processes.
        console: for progress.
    """

    file: Path
    student: VideoStudent
    accelerator: Accelerator
    console: Console

    @property
    def is_main(self) -> bool:
        """Whether this process writes the results."""
        return self.accelerator.is_main_process

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the logits."""
        return class_names(self.student)

    @property
    def digest(self) -> str:
        """The checkpoint's sha256."""
        return sha256_file(locate(self.file))

    def class_index(self, name: str) -> int:
        """Returns the label of a class.

        Raises:
            UsageError: there is no such class.
        """
        classes = self.classes
        if name not in classes:
            near, first = did_you_mean(name, classes), ", ".join(classes[:LISTED])
            more = ", ..." if len(classes) > LISTED else ""
            raise UsageError(f"no class '{name}'{near} among the checkpoint's {len(classes)}: {first}{more}.")
        return classes.index(name)

    def open_videos(self, data: str, split: str, *, labelled: bool = True) -> VideoSet:
        """Opens a split of the data; every file must be good.

        Raises:
            UsageError: no such data or split, or only one of data and student is for optical flow.
            DataError: a file is bad.
        """
        videos = open_videos(data, split=split, labelled=labelled)
        self._check_channels(videos)
        refuse_dropped(videos, data)
        return videos

    def open_files(self, paths: Sequence[Path]) -> VideoSet:
        """Opens files and folders, and prints once which files were skipped and why.

        For a student of optical flow, the flow of plain videos is computed as for its training videos.

        Raises:
            UsageError: a path does not exist, only one of videos and student is for optical flow, or the
                checkpoint does not record how its flow was computed.
            DataError: none of the files is a video.
            SetupError: flow without the `flow` extra.
        """
        videos = open_files(paths)
        if self.student.clip.channels == FLOW_CHANNELS and videos.flow is None:
            videos = FlowOfVideos(videos, _computable_flow(self.file))
        self._check_channels(videos)
        if self.is_main:
            for dropped in videos.dropped:
                self.console.print(
                    f"left out {dropped.path}: {dropped.reason}", highlight=False, soft_wrap=True
                )
        return videos

    def _check_channels(self, videos: VideoSet) -> None:
        """Refuses RGB for flow and the reverse, and warns of flow that was computed in another way."""
        check_channels(videos, self.student.clip)
        trained = _recorded_flow(self.file) if videos.flow and self.is_main else None
        if trained not in (None, videos.flow):
            self.console.print(
                f"warning: {self.file} was trained on other optical flow ({trained}) than these videos' "
                f"({videos.flow}): the same motion has other values",
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def inference_session(
    file: str | Path,
    videos: Sequence[Path] = (),
    *,
    precision: str = "fp32",
    classifier: bool = True,
    console: Console,
) -> Iterator[InferenceSession]:
    """Loads a checkpoint and joins the process group, which is left at the end.

    Args:
        file: the checkpoint.
        videos: paths given to the command; one that does not exist is refused before anything starts.
        precision: "auto", "bf16" or "fp32".
        classifier: whether the checkpoint must have one.
        console: for progress.

    Raises:
        WeightsError: the checkpoint is refused, or has no classifier.
        UsageError: the student takes neither RGB nor optical flow, or a path does not exist.
        SetupError: another process of the job died.
    """
    file = Path(file)
    refuse_videos(file, "Give the checkpoint first, then the videos.")
    existing_paths(videos)
    student = load(file)
    if classifier and student.num_classes == 0:
        raise WeightsError(f"{file} has no classifier. Train one with `transfer3d finetune {file}`.")
    refuse_other_channels(student, file)
    accelerator = make_accelerator(resolve_precision(precision))
    try:
        with watched_processes(accelerator):
            yield InferenceSession(file, student.to(accelerator.device), accelerator, console)
    finally:
        accelerator.end_training()


def refuse_videos(file: Path, remedy: str) -> None:
    """Raises UsageError if a video, or a folder of them, was given instead of a checkpoint."""
    if is_video(file):
        raise UsageError(f"{file} is a video. {remedy}")
    if file.is_dir() and not (file / WEIGHTS_NAME).exists() and videos_under(file):
        raise UsageError(f"{file} is a folder of videos. {remedy}")


def refuse_other_channels(student: VideoStudent, file: Path | str) -> None:
    """Raises UsageError unless a student takes RGB or optical flow; `file` may also be its name."""
    if student.clip.channels not in (RGB_CHANNELS, FLOW_CHANNELS):
        raise UsageError(
            f"{file} takes {student.clip.channels} channels, videos have {RGB_CHANNELS} (RGB) or "
            f"{FLOW_CHANNELS} (optical flow)."
        )


def _recorded_flow(file: Path) -> FlowFormat | None:
    """Returns how the optical flow of a checkpoint's training videos was computed; None if unknown."""
    try:
        return FlowFormat.model_validate(read_metadata(locate(file)).provenance.get("flow"))
    except ValidationError:
        return None


def _computable_flow(file: Path) -> FlowFormat:
    """Returns how to compute the optical flow of a checkpoint's training videos.

    Raises:
        UsageError: the checkpoint does not record it.
        SetupError: OpenCV is missing.
    """
    flow = _recorded_flow(file)
    if flow is None or flow.algorithm == "files":
        raise UsageError(
            f"{file} takes optical flow but does not record how to compute it. Create shards of flow with "
            "`transfer3d shard ... --flow tvl1`, and give their folder instead of videos."
        )
    import_opencv()  # fails now rather than during the work
    return flow
