"""A run as a report shows it: read from its folder, with an evaluation where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transfer3d.evaluation.scores import Scores
from transfer3d.weights.metadata import CheckpointMetadata

Log = Sequence[Mapping[str, Any]]
Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Change:
    """A key of the recipe with its value in the nearest built-in recipe and in the run."""

    key: str
    built_in: str
    run: str


@dataclass(frozen=True)
class Link:
    """One step of the way from the teacher to the checkpoint.

    Attributes:
        title: what it is.
        rows: names and values.
        beside: it is an input of the next link beside the one before, not its result.
    """

    title: str
    rows: Rows
    beside: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Numbers of a labelled set of videos.

    Attributes:
        metrics: see `evaluate.metrics.video_metrics`.
        classes: names, by label.
        split: of the data.
        source: in words: which videos, which views, by which file.
        data: digest of the set that the videos are of.
        protocol: the views and what makes one score of them, as `transfer3d evaluate` reports it.
        views: of a video, on average; None where unknown.
        right: whether each video was classified correctly, by key; empty where unknown.
    """

    metrics: Mapping[str, Any]
    classes: Sequence[str]
    split: str
    source: str
    data: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    views: float | None = None
    right: Mapping[str, bool] = field(default_factory=dict)

    @property
    def videos(self) -> int:
        """How many were scored."""
        return self.metrics["scored"]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run.

    Attributes:
        name: its folder, as it was named.
        recipe: resolved, JSON-able, nested tables.
        recipe_text: the same as TOML.
        parent: the built-in recipe that it differs from least.
        changes: how.
        log: rows of metrics.jsonl.
        steps: that were made.
        finished: whether it came to its end.
        started: what it noted at its start, see `run.started`; empty where it did not.
        checkpoint: what model.safetensors says of itself; None where there is none yet.
        chain: from the teacher to this run's checkpoint.
        stages: of a staged run, by name.
        evaluation: None where there is none.
    """

    name: str
    recipe: Mapping[str, Any]
    recipe_text: str
    parent: str
    changes: Sequence[Change]
    log: Log
    steps: int
    finished: bool
    started: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: CheckpointMetadata | None = None
    chain: Sequence[Link] = ()
    stages: Mapping[str, RunRecord] = field(default_factory=dict)
    evaluation: Evaluation | None = None

    @property
    def task(self) -> str:
        """What the run does, "correspond" or "finetune"; of a staged run what its last stage does."""
        return self.last.recipe["task"]

    @property
    def last(self) -> RunRecord:
        """The stage whose checkpoint is the run's; the run itself where it has none."""
        return list(self.stages.values())[-1] if self.stages else self

    @property
    def validated(self) -> int | None:
        """How many videos validation looks at, where the run noted it."""
        return self.started.get("data", {}).get("held_out") or None

    def rows(self, split: str) -> Log:
        """Returns the log's rows of one split, "train" or "val"."""
        return [row for row in self.log if row["split"] == split]

    def final(self, split: str) -> Mapping[str, Any]:
        """Returns the last row of one split; empty where there is none."""
        rows = self.rows(split)
        return rows[-1] if rows else {}


def curve(log: Log, split: str, name: str) -> list[tuple[float, float]]:
    """Returns (step, value) of one metric of a log."""
    return [(row["step"], row[name]) for row in log if row["split"] == split and name in row]


def correct_videos(scores: Scores) -> dict[str, bool]:
    """Returns whether the highest score of each video is of one of its classes, by key."""
    guesses = scores.videos_NK.argmax(1).tolist()
    rows = zip(scores.keys, scores.label_sets, guesses, strict=True)
    return {key: guess in labels for key, labels, guess in rows}
