"""What a video shows from one moment to the next, as a drawing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from matplotlib.axes import Axes

from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.pictures.figures import COLOURS, DASHES, short

OTHERS = "#999999"
BAND = (104.0, 8.0)  # bottom and height of the band of leading classes, on the scale of percents
LETTER = 0.012  # share of the width that a letter of a name needs


@dataclass(frozen=True)
class Leaders:
    """Which class leads when.

    Attributes:
        classes: of each window the most likely class.
        edges: seconds; a window's step is around its middle, from `edges[n]` to `edges[n + 1]`.
        colours: of the classes that lead longest, as many as there are colours, in the order in which they
            appear.
    """

    classes: list[int]
    edges: list[float]
    colours: dict[int, str]

    def at(self, time_s: float) -> int:
        """Returns the number of the window whose step a time falls into."""
        return bisect_right(self.edges[1:-1], time_s)

    @property
    def stretches(self) -> list[tuple[int, float, float]]:
        """Each stretch of time with one leader: the class, start and end in seconds."""
        groups = groupby(range(len(self.classes)), key=self.classes.__getitem__)
        spans = [(k, list(windows)) for k, windows in groups]
        return [(k, self.edges[windows[0]], self.edges[windows[-1] + 1]) for k, windows in spans]


def find_leaders(predictions: Sequence[Prediction]) -> Leaders:
    """Returns which class leads when, of at least one prediction in the order of time."""
    classes: list[int] = [int(prediction.scores_K.argmax()) for prediction in predictions]
    middles = [(prediction.start + prediction.end) / 2 for prediction in predictions]
    edges = [predictions[0].start, *((a + b) / 2 for a, b in pairwise(middles)), predictions[-1].end]
    appearing = list(dict.fromkeys(classes))
    longest = sorted(appearing, key=classes.count, reverse=True)[: len(COLOURS)]
    drawn = [k for k in appearing if k in longest]
    return Leaders(classes, edges, dict(zip(drawn, COLOURS, strict=False)))


def draw_timeline(
    axes: Axes, predictions: Sequence[Prediction], classes: Sequence[str], *, title: str
) -> None:
    """Draws the probabilities of the leading classes over time, and a band of which one leads.

    A window is drawn as a step around its middle. Of the classes that lead anywhere those are drawn that lead
    longest, as many as there are colours, in the order of their appearance.

    Args:
        axes: to draw on.
        predictions: in the order of time, at least one.
        classes: names of the scores.
        title: of the drawing.
    """
    scores_NK = torch.stack([prediction.scores_K for prediction in predictions])
    leaders = find_leaders(predictions)
    edges = leaders.edges
    for (k, colour), dash in zip(leaders.colours.items(), DASHES, strict=False):
        heights = (100 * scores_NK[:, k]).tolist()
        axes.stairs(
            heights,
            edges,
            baseline=None,
            label=short(classes[k]),
            linewidth=1.8,
            color=colour,
            linestyle=dash,
        )
    _draw_band(axes, leaders, classes)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("time in the video, seconds")
    axes.set_ylabel("probability, %")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-1, sum(BAND) + 1)
    axes.set_yticks(range(0, 101, 20))
    others = len(set(leaders.classes)) - len(leaders.colours)
    axes.legend(
        title=f"most likely class\n(grey: {others} others)" if others else "most likely class",
        frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), alignment="left",
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def _draw_band(axes: Axes, leaders: Leaders, classes: Sequence[str]) -> None:
    """Draws a bar for each stretch of time with one leading class, and its name where there is room."""
    bottom, height = BAND
    for k, start, end in leaders.stretches:
        colour = leaders.colours.get(k, OTHERS)
        axes.broken_barh([(start, end - start)], BAND, facecolors=colour, edgecolor="white")
        if end - start >= LETTER * len(classes[k]) * (leaders.edges[-1] - leaders.edges[0]):
            axes.text(
                (start + end) / 2, bottom + height / 2, classes[k], ha="center", va="center", fontsize=8,
                color="white", fontweight="bold", clip_on=True,
            )  # fmt: skip
