"""What a video shows from one moment to the next, as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import torch
from matplotlib.axes import Axes

from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.pictures.figures import COLOURS, DASHES, short

OTHERS = "#999999"
BAND = (104.0, 8.0)  # bottom and height of the band of leading classes, on the scale of percents
LETTER = 0.012  # share of the width that a letter of a name needs


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
    leaders: list[int] = scores_NK.argmax(1).tolist()
    middles = [(prediction.start + prediction.end) / 2 for prediction in predictions]
    edges = [predictions[0].start, *((a + b) / 2 for a, b in pairwise(middles)), predictions[-1].end]
    appearing = list(dict.fromkeys(leaders))
    longest = sorted(appearing, key=leaders.count, reverse=True)[: len(COLOURS)]
    drawn = [k for k in appearing if k in longest]
    for k, colour, dash in zip(drawn, COLOURS, DASHES, strict=False):
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
    _draw_band(axes, leaders, edges, classes, dict(zip(drawn, COLOURS, strict=False)))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("time in the video, seconds")
    axes.set_ylabel("probability, %")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-1, sum(BAND) + 1)
    axes.set_yticks(range(0, 101, 20))
    others = len(appearing) - len(drawn)
    axes.legend(
        title=f"most likely class\n(grey: {others} others)" if others else "most likely class",
        frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), alignment="left",
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def _draw_band(
    axes: Axes,
    leaders: Sequence[int],
    edges: Sequence[float],
    classes: Sequence[str],
    colours: dict[int, str],
) -> None:
    """Draws a bar for each stretch of time with one leading class, and its name where there is room."""
    bottom, height = BAND
    for k, group in groupby(range(len(leaders)), key=leaders.__getitem__):
        windows = list(group)
        start, end = edges[windows[0]], edges[windows[-1] + 1]
        axes.broken_barh([(start, end - start)], BAND, facecolors=colours.get(k, OTHERS), edgecolor="white")
        if end - start >= LETTER * len(classes[k]) * (edges[-1] - edges[0]):
            axes.text(
                (start + end) / 2, bottom + height / 2, classes[k], ha="center", va="center", fontsize=8,
                color="white", fontweight="bold", clip_on=True,
            )  # fmt: skip
