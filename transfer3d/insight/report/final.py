"""The final numbers of a run, from evaluation, validation and training, with intervals if available."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transfer3d.insight.intervals import wilson
from transfer3d.insight.report.numbers import interval, percent
from transfer3d.insight.report.record import RunRecord, curve

SHARES = {
    "video_top1": "top-1",
    "video_top3": "top-3",
    "video_top5": "top-5",
    "video_hit1": "hit@1",
    "video_hit5": "hit@5",
}
"""Metrics that are shares of videos, with their names."""
MEANS = {"mean_class_accuracy": "mean over classes", "mean_ap": "mean average precision"}
TRAINING = {
    "balanced_accuracy": "pair accuracy, balanced (chance 50 %)",
    "matched_accuracy": "pair accuracy, matched",
    "mismatched_accuracy": "pair accuracy, mismatched",
    "shuffled_accuracy": "pair accuracy with shuffled clips (chance 50 %)",
    "recall_at_1": "recall@1 within a batch",
    "recall_at_5": "recall@5 within a batch",
    "clip_accuracy": "training accuracy",
    "clip_hit1": "training hit@1",
}
LEADING = {
    *("video_top1", "video_top5", "video_hit1", "balanced_accuracy"),
    *("recall_at_1", "clip_accuracy", "clip_hit1"),
}
VALIDATED = {"video_top1": "top-1", "mean_ap": "mean average precision"}


@dataclass(frozen=True, kw_only=True)
class Number:
    """One final number.

    Attributes:
        what: its name.
        value: shares are 0..1.
        videos: number of videos of a share; None if it has no interval.
        views: number of views per video; None if it is not from an evaluation.
        is_test: whether it is from an evaluation, not from training.
        is_share: whether it is printed in percent.
        leads: whether it is among the most important numbers.
    """

    what: str
    value: float
    videos: int | None = None
    views: float | None = None
    is_test: bool = False
    is_share: bool = True
    leads: bool = False

    @property
    def text(self) -> str:
        """The value as text."""
        return percent(self.value) if self.is_share else f"{self.value:.4g}"

    @property
    def between(self) -> str:
        """The 95 % interval as text."""
        return interval(self.value, self.videos)

    @property
    def detail(self) -> str:
        """The 95 % interval and the views per video as text, which may only wrap between the two."""
        views = (
            ""
            if self.views is None
            else f"{self.views:.3g}\N{NO-BREAK SPACE}view{'s' if self.views != 1 else ''}"
        )
        return ", ".join(filter(None, (self.between, views)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        low, high = wilson(self.value * self.videos, self.videos) if self.videos else (None, None)
        return {"number": self.what, "value": self.value, "low": low, "high": high, "videos": self.videos}


def final_numbers(record: RunRecord) -> list[Number]:
    """Returns the available numbers, the most important first."""
    numbers: list[Number] = []
    if tested := record.evaluation:
        for key, name in (SHARES | MEANS).items():
            if key in tested.metrics:
                value, videos = tested.metrics[key], tested.videos if key in SHARES else None
                what = f"{tested.split}, {name}"
                numbers.append(
                    Number(
                        what=what,
                        value=value,
                        videos=videos,
                        views=tested.views,
                        is_test=True,
                        leads=key in LEADING,
                    )
                )
    run = record.last
    for key, name in VALIDATED.items():
        scores, videos = curve(run.log, "val", key), run.validated if key in SHARES else None
        values = [value for _, value in scores]
        if values:
            what = f"val, {name}, last"  # validation uses the centre clip of each video
            numbers.append(Number(what=what, value=values[-1], videos=videos, views=1, leads=True))
        if len(values) > 1:
            what = f"val, {name}, best of {len(values)} (selected, so optimistic)"
            numbers.append(Number(what=what, value=max(values), videos=videos, views=1))
    final = run.final("train")
    numbers += [
        Number(what=what, value=final[key], leads=key in LEADING)
        for key, what in TRAINING.items()
        if key in final
    ]
    plain = {
        "feature_directions": "effective rank of the features",
        "feature_spread": "relative std of the features",
        "loss": "training loss",
    }
    numbers += [
        Number(what=what, value=final[key], is_share=False) for key, what in plain.items() if key in final
    ]
    return numbers
