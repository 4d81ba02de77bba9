"""Curves of a run's log over its steps, of one run or of several in the same axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes

from transfer3d.insight.pictures import figures
from transfer3d.insight.report import page
from transfer3d.insight.report.record import Log, curve

SIZE = (5.4, 3.1)
"""Figure size in inches: half the width of a page, and still readable on a phone."""
Metric = tuple[str, str, str]
"""Name in the legend, split, name in the log."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure over steps.

    Attributes:
        axis: label of the y axis, with its unit.
        caption: explanation for readers.
        metrics: metrics of the curves; runs are compared by the first one.
        percent: whether values are shares, 0..1, to be drawn in percent.
        line: a reference level and its name.
    """

    axis: str
    caption: str
    metrics: tuple[Metric, ...]
    percent: bool = False
    line: tuple[float, str] | None = None

    def series(self, log: Log) -> dict[str, list[tuple[float, float]]]:
        """Returns the log's curves, by their names in the legend."""
        curves = {label: curve(log, split, name) for label, split, name in self.metrics}
        return {label: points for label, points in curves.items() if points}

    def draw_on(self, axes: Axes, series: figures.Series) -> None:
        """Draws curves, which may be of one run or of several."""
        figures.draw_curves(axes, series, label=self.axis, percent=self.percent, line=self.line)

    def draw(self, series: figures.Series, caption: str) -> str:
        """Returns the figure as HTML."""
        figure = figures.new_figure(*SIZE)
        self.draw_on(figure.subplots(), series)
        return page.svg_figure(figures.to_svg(figure), caption)


LOSS_TERMS = ("match", "infonce", "feature", "dense", "kd")
MATCHING = Plot(
    axis="pair accuracy, %",
    caption="The matching task: do these frames and this clip come from the same video? Balanced is the mean "
    "of matched and mismatched pairs. With shuffled clips the accuracy should stay at chance; otherwise the "
    "head ignores the student.",
    metrics=(
        ("balanced", "train", "balanced_accuracy"),
        ("matched", "train", "matched_accuracy"),
        ("mismatched", "train", "mismatched_accuracy"),
        ("shuffled clips", "train", "shuffled_accuracy"),
    ),
    percent=True,
    line=(0.5, "chance"),
)
PLOTS = (
    Plot(
        axis="loss",
        caption="Training loss, averaged since the last point; several terms are shown unweighted.",
        metrics=(("loss", "train", "loss"), *((name, "train", f"{name}_loss") for name in LOSS_TERMS)),
    ),
    Plot(
        axis="accuracy, %",
        caption="Accuracy. Training: the augmented clips of the steps before a point; validation: the centre "
        "clip of each video.",
        metrics=(
            ("validation, top-1", "val", "video_top1"),
            ("validation, top-5", "val", "video_top5"),
            ("training clips", "train", "clip_accuracy"),
        ),
        percent=True,
    ),
    Plot(
        axis="multi-label, %",
        caption="For videos with several labels: mean average precision over classes, and hit@1, the share "
        "of videos whose highest score is for one of their labels.",
        metrics=(
            ("validation, mean average precision", "val", "mean_ap"),
            ("validation, hit@1", "val", "video_hit1"),
            ("training clips, hit@1", "train", "clip_hit1"),
        ),
        percent=True,
    ),
    MATCHING,
    Plot(
        axis="recall, %",
        caption="Recall: how often frames rank their own clip first, or among the first five, in the batch.",
        metrics=(("recall@1", "train", "recall_at_1"), ("recall@5", "train", "recall_at_5")),
        percent=True,
    ),
    Plot(
        axis="effective rank",
        caption="Effective rank of the student's features in a batch; 1 = collapsed.",
        metrics=(("features", "train", "feature_directions"),),
    ),
    Plot(axis="learning rate", caption="Learning rate.", metrics=(("learning rate", "train", "lr"),)),
    Plot(
        axis="share of time, %",
        caption="Waiting for data: the share of time in which training waited for the next batch.",
        metrics=(("data wait", "train", "data_wait"),),
        percent=True,
    ),
    Plot(
        axis="clips per second",
        caption="Speed of all processes together.",
        metrics=(("clips per second", "train", "clips_per_second"),),
    ),
)


def curves(log: Log) -> str:
    """Returns the figures for which the log has a curve."""
    drawn = [(plot, plot.series(log)) for plot in PLOTS]
    return page.grid([plot.draw(series, plot.caption) for plot, series in drawn if _is_curve(series)])


def overlaid(logs: Mapping[str, Log]) -> str:
    """Returns, for each plot, the curves of its first metric of all runs, if at least two runs have it.

    Args:
        logs: logs by name of the run.
    """
    drawn = []
    for plot in PLOTS:
        label, split, name = plot.metrics[0]
        series = {run: points for run, log in logs.items() if (points := curve(log, split, name))}
        if len(series) > 1 and _is_curve(series):
            drawn.append(plot.draw(series, f"{label[0].upper()}{label[1:]}, by run."))
    return page.grid(drawn)


def _is_curve(series: figures.Series) -> bool:
    """Whether there is a curve with more than one point; a single point is already in the table."""
    return any(len(points) > 1 for points in series.values())
