"""What a video shows from one moment to the next, as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from matplotlib.axes import Axes

from transfer3d.evaluate.stream import Prediction
from transfer3d.insight.figures import COLOURS, DASHES


def draw_timeline(
    axes: Axes, predictions: Sequence[Prediction], classes: Sequence[str], *, title: str
) -> None:
    """Draws the probability of the leading classes over time, one step for each window, around its middle.

    Shown are the classes that lead anywhere, those that lead longest first, as many as there are colours.

    Args:
        axes: to draw on.
        predictions: in the order of time, at least one.
        classes: names of the scores.
        title: of the drawing.
    """
    scores_NK = torch.stack([prediction.scores_K for prediction in predictions])
    leads_K = torch.bincount(scores_NK.argmax(1), minlength=scores_NK.shape[1])
    shown = [k for k in leads_K.argsort(descending=True, stable=True).tolist() if leads_K[k]][: len(COLOURS)]
    middles = [(prediction.start + prediction.end) / 2 for prediction in predictions]
    edges = [
        predictions[0].start,
        *((a + b) / 2 for a, b in pairwise(middles)),
        predictions[-1].end,
    ]
    for number, k in enumerate(shown):
        axes.stairs(
            (100 * scores_NK[:, k]).tolist(), edges, baseline=None, label=classes[k], linewidth=1.8,
            color=COLOURS[number], linestyle=DASHES[number],
        )  # fmt: skip
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("time in the video, seconds")
    axes.set_ylabel("probability, %")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 102)
    left_out = int((leads_K > 0).sum()) - len(shown)
    more = f"most likely class\n({left_out} others lead for shorter)" if left_out else "most likely class"
    axes.legend(
        title=more, frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), alignment="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
