"""What is compared: the setting that all rows share, and how each row's student is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from transfer3d.data import SynthConfig
from transfer3d.recipes import Recipe, load_recipe

Start = Literal["scratch", "inflated", "frames"]
Background = Literal["weak", "strong"]
Digits = Literal["0-9", "0-4", "5-9"]
DIGITS: dict[Digits, range] = {"0-9": range(10), "0-4": range(5), "5-9": range(5, 10)}
TEACHER, FAMILY, STUDENT = "test_resnet", "p3d", "p3d_tiny"
POSES = "free"
LABEL_CURVE = (1, 2, 5, 10, 20, 50)


class Setting(BaseModel):
    """What all rows share; it is in the JSON, and a run only continues one with the same setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: int = Field(default=5, ge=1)
    """Labelled training videos of each class."""
    train: int = Field(default=50, ge=1)
    """Videos of each class that the labelled ones are drawn from."""
    val: int = Field(default=10, ge=1)
    test: int = Field(default=20, ge=1)
    unlabelled: int = Field(default=2000, ge=32)
    teacher_steps: int = Field(default=1000, ge=1)
    transfer_steps: int = Field(default=1500, ge=1)
    finetune_steps: int | None = Field(default=None, ge=1)
    """Instead of the number that tuning chose; none = that number."""
    data_seed: int = Field(default=0, ge=0)

    def synth(self, background: Background) -> SynthConfig:
        """Returns the configuration of a dataset with such a background."""
        parts = {"train": self.train, "val": self.val, "test": self.test, "unlabelled": self.unlabelled}
        return SynthConfig(seed=self.data_seed, background=background, poses=POSES, stills=0, **parts)


QUICK = Setting(unlabelled=1000, transfer_steps=300, finetune_steps=150)
"""A version that takes minutes."""


TRANSFERS: dict[str, list[str]] = {
    "match": [],
    "one-to-one": ["correspondence.pairs=one-to-one"],
    "hard": ["correspondence.pairs=hard"],
    "infonce": ["correspondence.match=0", "correspondence.infonce=1"],
    "feature": ["correspondence.match=0", "correspondence.feature=1"],
    "kd": ["correspondence.match=0", "correspondence.kd=1"],
    "match + feature": ["correspondence.feature=1"],
    "independent": ["correspondence.teacher_view=independent"],
    "colour": ["augment.colour=1", "correspondence.teacher_view=independent"],
    "colour, hard": [
        "augment.colour=1",
        "correspondence.teacher_view=independent",
        "correspondence.pairs=hard",
    ],
}
"""Variants of correspondence, as `--set` of `transfer3d correspond --recipe demo/tiny-correspond`."""


@dataclass(frozen=True)
class Row:
    """One row: a student's first weights, its correspondence, its number of labels.

    Attributes:
        name: unique.
        study: which table or figure it is for.
        start: random weights, the teacher's kernels, or no student: the teacher sees single frames.
        transfer: key of `TRANSFERS`; None = no correspondence.
        labels: of each class; None = the setting's.
        background: of all videos, and of the teacher's images.
        teacher: the digits that the teacher has learnt.
        source: the digits that the inflated network has learnt; None = it is the teacher.
    """

    name: str
    study: str
    start: Start
    transfer: str | None = None
    labels: int | None = None
    background: Background = "weak"
    teacher: Digits = "0-9"
    source: Digits | None = None

    @property
    def has_teacher(self) -> bool:
        """Whether a student learns from the teacher, is made from it, or the row is the teacher itself."""
        return self.start == "frames" or self.transfer is not None or self.inflated_from == self.teacher

    @property
    def inflated_from(self) -> Digits | None:
        """The digits of the network that the student is inflated from; None = it is not inflated."""
        return (self.source or self.teacher) if self.start == "inflated" else None

    @property
    def image_networks(self) -> set[Digits]:
        """The digits of each image network that is needed."""
        needed: set[Digits] = {self.teacher} if self.has_teacher else set()
        if self.inflated_from:
            needed.add(self.inflated_from)
        return needed

    @property
    def tuned_as(self) -> str:
        """The main row whose learning rate and steps are used."""
        suffix = "" if self.transfer is None else " + correspondence"
        names = {"scratch + correspondence": "correspondence", "frames": "frame teacher"}
        return names.get(self.start + suffix, self.start + suffix)


MAIN = (
    Row("scratch", "main", "scratch"),
    Row("correspondence", "main", "scratch", "match"),
    Row("inflated", "main", "inflated"),
    Row("inflated + correspondence", "main", "inflated", "match"),
    Row("frame teacher", "main", "frames"),
)
OBJECTIVES = tuple(
    Row(name, "objectives", "scratch", name) for name in ("infonce", "feature", "kd", "match + feature")
)
PAIRS = tuple(Row(f"match, {name}", "pairs", "scratch", name) for name in ("one-to-one", "hard"))
CURVE = tuple(
    Row(f"{row.name}, {labels} labels", "labels", row.start, row.transfer, labels)
    for labels in LABEL_CURVE
    for row in MAIN
)
SHORTCUT = (
    Row("strong backgrounds: scratch", "shortcut", "scratch", background="strong"),
    *(
        Row(f"strong backgrounds: {name}", "shortcut", "scratch", name, background="strong")
        for name in ("match", "hard", "independent", "colour", "colour, hard")
    ),
    Row("strong backgrounds: inflated", "shortcut", "inflated", background="strong"),
)
HALVES = (
    Row("halves: correspondence with 5-9", "halves", "scratch", "match", teacher="5-9"),
    Row("halves: inflated from 0-4", "halves", "inflated", source="0-4"),
    *(
        Row(
            f"halves: inflated from 0-4 + correspondence with {digits}",
            "halves",
            "inflated",
            "match",
            teacher=digits,
            source="0-4",
        )
        for digits in ("0-4", "5-9")
    ),
)
STUDIES = (*OBJECTIVES, *PAIRS, *CURVE, *SHORTCUT, *HALVES)


def transfer_recipe(setting: Setting, transfer: str, seed: int) -> Recipe:
    """Returns the recipe of a row's correspondence."""
    return load_recipe(
        "demo/tiny-correspond", TRANSFERS[transfer], seed=seed, max_steps=setting.transfer_steps
    )


def finetune_recipe(seed: int, chosen: dict[str, Any]) -> Recipe:
    """Returns the recipe of the labelled training: `chosen` has its `lr` and `max_steps`."""
    return load_recipe("demo/tiny-finetune", seed=seed, epochs=None, **chosen)
