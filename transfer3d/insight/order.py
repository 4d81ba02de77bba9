"""The effect of frame order on a student: accuracy and changed predictions for reversed and shuffled clips.

Paper: Zhang et al., "V4D: 4D Convolutional Neural Networks for Video-level Representation Learning",
ICLR 2020, section 4.4 (temporal order): top-1 falls from 50.4 % to 17.2 % when the frames of each action unit
are reversed, and to 20.1 % when the units are. A still clip shows how far single frames suffice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from transfer3d.batch import multi_hot
from transfer3d.data.views import FrameOrder
from transfer3d.evaluation.scores import Scores
from transfer3d.insight.intervals import paired_difference
from transfer3d.insight.pictures.figures import COLOURS, new_figure
from transfer3d.layout import ClipSpec

CLIP_ORDERS: tuple[FrameOrder, ...] = ("forward", "frames_reversed", "frames_shuffled", "still")
UNIT_ORDERS: tuple[FrameOrder, ...] = ("units_reversed", "units_shuffled")

SHOWN: Mapping[FrameOrder, str] = {
    "forward": "as filmed",
    "frames_reversed": "frames reversed",
    "frames_shuffled": "frames shuffled",
    "still": "still (middle frame)",
    "units_reversed": "units reversed",
    "units_shuffled": "units shuffled",
}
"""The names of the orders in tables and figures."""


def orders_for(clip: ClipSpec) -> tuple[FrameOrder, ...]:
    """Returns the orders that a student can be tested with; a video-level one also has orders of units."""
    return CLIP_ORDERS + UNIT_ORDERS if clip.units > 1 else CLIP_ORDERS


@dataclass(frozen=True, kw_only=True)
class OrderResult:
    """A student's predictions for the same videos in one frame order.

    Attributes:
        order: see `ViewPlan.orders`.
        top1: share of videos whose top class is among their labels, 0..1.
        drop: drop of top-1 relative to the normal order; negative if it increased.
        drop_95: the drop's 95 % interval for paired predictions: see `paired_difference`.
        changed: share of videos whose top class differs from that in the normal order, 0..1.
        moves: (top class in normal order, top class in this order, number of videos) of the changed ones, the
            most frequent first.
    """

    order: FrameOrder
    top1: float
    drop: float
    drop_95: tuple[float, float]
    changed: float
    moves: Sequence[tuple[str, str, int]]


def split_orders(scores: Scores, orders: Sequence[FrameOrder]) -> list[Scores]:
    """Splits the scores of a `ViewPlan` with several orders into one `Scores` per order."""

    def part(tensors: Sequence[Tensor], number: int) -> list[Tensor]:
        return [rows.chunk(len(orders))[number] for rows in tensors]

    return [
        replace(scores, views_VK=part(scores.views_VK, number), scale_V=part(scores.scale_V, number))
        for number in range(len(orders))
    ]


def order_results(scores: Scores, orders: Sequence[FrameOrder], classes: Sequence[str]) -> list[OrderResult]:
    """Compares every order with the first one.

    Args:
        scores: scores of labelled videos, from a plan with these orders.
        orders: frame orders of the plan; the first is the normal order.
        classes: names, by label.
    """
    best_ON = torch.stack([part.videos_NK.argmax(-1) for part in split_orders(scores, orders)])
    labels = multi_hot(scores.label_sets, len(classes)).bool()
    correct_ON = torch.stack([labels.gather(1, best_N[:, None])[:, 0] for best_N in best_ON])
    results = []
    for order, best_N, correct_N in zip(orders, best_ON, correct_ON, strict=True):
        lost, gained = int((correct_ON[0] & ~correct_N).sum()), int((correct_N & ~correct_ON[0]).sum())
        drop, low, high = paired_difference(lost, gained, len(correct_N))
        results.append(
            OrderResult(
                order=order,
                top1=float(correct_N.double().mean()),
                drop=drop,
                drop_95=(low, high),
                changed=float((best_N != best_ON[0]).double().mean()),
                moves=_moves(best_ON[0].tolist(), best_N.tolist(), classes),
            )
        )
    return results


def _moves(old_N: list[int], new_N: list[int], classes: Sequence[str]) -> list[tuple[str, str, int]]:
    pairs = Counter(pair for pair in zip(old_N, new_N, strict=True) if pair[0] != pair[1])
    return [(classes[old], classes[new], count) for (old, new), count in pairs.most_common()]


def order_figure(results: Sequence[OrderResult], *, chance: float, title: str) -> Figure:
    """Draws top-1 and the share of changed predictions for each order, as labelled bars.

    Args:
        results: results of `order_results`.
        chance: top-1 of guessing, 0..1.
        title: the student and the data.
    """
    figure = new_figure(8.6, 0.5 * len(results) + 1.6)
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    rows = range(len(results))
    left.barh(rows, [100 * result.top1 for result in results], color=COLOURS[0])
    right.barh(rows, [100 * result.changed for result in results], color=COLOURS[1])
    for row, result in enumerate(results):
        low, high = (-100 * end for end in reversed(result.drop_95))
        drop = f"  ({-100 * result.drop:+z.1f}; {low:+z.1f} to {high:+z.1f})" if row else ""
        place = 100 * max(result.top1, chance) + 1
        left.text(place, row, f"{100 * result.top1:.1f} %{drop}", va="center", fontsize=9)
        changed = f"{100 * result.changed:.1f} %" if row else "the reference"
        right.text(100 * result.changed + 1, row, changed, va="center", fontsize=9)
    left.axvline(100 * chance, color="#555555", linestyle=":")
    left.text(100 * chance, -0.75, f" chance {100 * chance:.3g} %", color="#555555", va="center", fontsize=8)
    left.set_yticks(rows, [SHOWN[result.order] for result in results])
    left.set_ylim(len(results) - 0.5, -1)
    left.set_xlabel("top-1 accuracy, %\n(change in points from as filmed; its 95 % interval)")
    right.set_xlabel("predictions that differ from as filmed,\n% of videos")
    for axes, room in ((left, 180), (right, 125)):
        axes.set_xlim(0, room)
        axes.set_xticks(range(0, 101, 25))
        axes.spines[["top", "right"]].set_visible(False)
    return figure
