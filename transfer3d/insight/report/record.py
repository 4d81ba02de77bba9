"""The data of a run for a report, read from its folder."""

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
    """A key of the recipe, with its values in the nearest built-in recipe and in the run."""

    key: str
    built_in: str
    run: str


@dataclass(frozen=True)
class Link:
    """One link of the provenance chain from the first weights to the checkpoint.

    Attributes:
        title: description of the link.
        rows: names and values.
        beside: whether it is an additional input of the next link, not a result of the previous one.
    """

    title: str
    rows: Rows
    beside: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics on a labelled set of videos.

    Attributes:
        metrics: see `evaluation.metrics.video_metrics`.
        classes: names, by label.
        split: split of the data.
        source: description of the videos, the views and the file.
        data: digest of the set of videos.
        protocol: the views and their pooling, as reported by `transfer3d evaluate`.
        views: average number per video; None if unknown.
        right: whether each video was classified correctly, by key; empty if unknown.
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
        """The number of scored videos."""
        return self.metrics["scored"]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run.

    Attributes:
        name: path of its folder, as given.
        recipe: resolved, JSON-able, nested tables.
        recipe_text: the recipe as TOML.
        parent: the built-in recipe with the fewest differences.
        changes: the differences from `parent`.
        log: rows of metrics.jsonl.
        steps: number of completed steps.
        finished: whether the run has finished.
        started: the run's manifest, see `run_manifest`; empty if there is none.
        checkpoint: metadata of model.safetensors; None if there is none yet.
        chain: provenance from the first weights to this run's checkpoint.
        stages: stages of a staged run, by name.
        evaluation: None if there is none.
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
        """The task, "correspond" or "finetune"; for a staged run that of its last stage."""
        return self.last.recipe["task"]

    @property
    def last(self) -> RunRecord:
        """The stage whose checkpoint is the run's; the run itself if it has no stages."""
        return list(self.stages.values())[-1] if self.stages else self

    @property
    def validated(self) -> int | None:
        """The number of validation videos, if recorded."""
        return self.started.get("data", {}).get("held_out") or None

    def rows(self, split: str) -> Log:
        """Returns the log's rows of one split, "train" or "val"."""
        return [row for row in self.log if row["split"] == split]

    def final(self, split: str) -> Mapping[str, Any]:
        """Returns the last row of one split; empty if there is none."""
        rows = self.rows(split)
        return rows[-1] if rows else {}


def curve(log: Log, split: str, name: str) -> list[tuple[float, float]]:
    """Returns (step, value) of one metric of a log."""
    return [(row["step"], row[name]) for row in log if row["split"] == split and name in row]


def correct_videos(scores: Scores) -> dict[str, bool]:
    """Returns whether the highest score of each video is for one of its labels, by key."""
    guesses = scores.videos_NK.argmax(1).tolist()
    rows = zip(scores.keys, scores.label_sets, guesses, strict=True)
    return {key: guess in labels for key, labels, guess in rows}
