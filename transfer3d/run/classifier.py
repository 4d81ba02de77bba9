"""A checkpoint that names classes, for the commands that show what it knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer3d.errors import UsageError, WeightsError, did_you_mean
from transfer3d.models.checkpoint import load, read_metadata
from transfer3d.models.student import VideoStudent
from transfer3d.run.students import RGB


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
                "E251", f"no class '{name}'{near} among the checkpoint's {len(self.classes)}: {some}, ..."
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
        raise WeightsError("E431", f"{file} has no classifier. Train one with `transfer3d finetune {file}`.")
    if len(student.clip.mean) != RGB:
        raise UsageError(
            "E207", f"{file} takes {len(student.clip.mean)} channels, videos are decoded to {RGB}."
        )
    names = read_metadata(file).class_names
    return Classifier(student, names or [f"class {number}" for number in range(student.num_classes)])
