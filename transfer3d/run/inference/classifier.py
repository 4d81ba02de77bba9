"""A checkpoint that names classes, for the commands that ask it about videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transfer3d.data.source import open_files
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import is_main_process
from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.models.checkpoint import load
from transfer3d.models.student import VideoStudent
from transfer3d.weights.metadata import read_metadata

RGB = 3


@dataclass(frozen=True)
class Classifier:
    """A student and the names of its classes, in the order of the logits."""

    student: VideoStudent
    classes: Sequence[str]

    def number(self, name: str) -> int:
        """Returns the label of a class.

        Raises:
            UsageError: there is no such class.
        """
        if name not in self.classes:
            near = did_you_mean(name, self.classes)
            some = ", ".join(self.classes[:3])
            raise UsageError(
                f"no class '{name}'{near} among the checkpoint's {len(self.classes)}: {some}, ..."
            )
        return self.classes.index(name)


def load_classifier(file: Path) -> Classifier:
    """Loads a checkpoint with a classifier; classes without names are `class 0`, `class 1`, and so on.

    Raises:
        WeightsError: the checkpoint is refused, or has no classifier.
        UsageError: the student does not see RGB.
    """
    student = load(file)
    if student.num_classes == 0:
        raise WeightsError(f"{file} has no classifier. Train one with `transfer3d finetune {file}`.")
    refuse_other_channels(student, file)
    names = read_metadata(file).class_names
    return Classifier(student, names or [f"class {number}" for number in range(student.num_classes)])


def refuse_other_channels(student: VideoStudent, file: Path | str) -> None:
    """Raises UsageError where a student, from a file or by its name, does not see RGB: videos are no more."""
    if len(student.clip.mean) != RGB:
        raise UsageError(f"{file} takes {len(student.clip.mean)} channels, videos are decoded to {RGB}.")


def open_and_name_dropped(videos: Sequence[Path], console: Console) -> VideoSet:
    """Opens files and folders, and says once what is left out of them, and why."""
    source = open_files(videos)
    if is_main_process():
        for dropped in source.dropped:
            console.print(f"left out {dropped.path}: {dropped.reason}", highlight=False, soft_wrap=True)
    return source
