"""An embedding as a picture that reads well whatever the number of classes.

Up to twelve groups have a colour and a shape each, and a legend. Of more the colours of neighbours differ,
and their names are written above their medians, the largest first, as many as there is room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from transfer3d.errors import UsageError
from transfer3d.insight.embedding import Embedding, Floats, Labels
from transfer3d.insight.pictures.figures import COLOURS, new_figure, short

MARKERS = ("o", "^")
LEGEND = len(COLOURS) * len(MARKERS)
PANEL = 5.2  # inches
NAME_SIZE = 7.5  # points
RASTER_ABOVE = 2000  # points of a drawing; more of them are pixels in an SVG
NO_CLASS = "#8a8a8a"


@dataclass(frozen=True)
class Grouping:
    """What the points are coloured by.

    Attributes:
        title: of its panel.
        names: of the groups.
        groups_N: group of each point, -1 for none.
    """

    title: str
    names: Sequence[str]
    groups_N: Labels


def class_parts(classes: Sequence[str]) -> list[list[str]]:
    """Returns the values of each part of class names such as `3_left`; none where they do not form a grid.

    They are one where "_" cuts every name into as many parts, and every combination of parts is a class.
    """
    cut = [name.split("_") for name in classes]
    if len({len(parts) for parts in cut}) != 1 or len(cut[0]) < 2:
        return []
    values = [list(dict.fromkeys(column)) for column in zip(*cut, strict=True)]
    whole = len(classes) == len(set(product(*values))) and min(map(len, values)) > 1
    return values if whole else []


def chosen_parts(classes: Sequence[str], color_by: str) -> list[int]:
    """Returns which parts of class names a figure has panels for, from 0; none where it is coloured by class.

    Args:
        classes: names.
        color_by: "class"; "1", "2", ... for that part of class names such as `3_left`; "auto" for all parts
            where class names have such, else by class.

    Raises:
        UsageError: the class names have no such part.
    """
    count = len(class_parts(classes))
    if color_by in ("auto", "class"):
        return list(range(count)) if color_by == "auto" else []
    if color_by not in map(str, range(1, count + 1)):
        have = f"parts 1 to {count}" if count else "no parts: not all combinations of the form a_b"
        raise UsageError(f"--color-by {color_by}: auto, class or a part; the class names have {have}.")
    return [int(color_by) - 1]


def groupings(embedding: Embedding, color_by: str = "auto") -> list[Grouping]:
    """Returns what the panels of a figure are coloured by; see `chosen_parts`."""
    parts = chosen_parts(embedding.classes, color_by)
    if not parts:
        return [Grouping("", embedding.classes, embedding.labels_N)]
    return [_by_part(embedding, part) for part in parts]


def _by_part(embedding: Embedding, part: int) -> Grouping:
    values = class_parts(embedding.classes)[part]
    group_of = np.array([values.index(name.split("_")[part]) for name in embedding.classes])
    labels_N = embedding.labels_N
    title = ", ".join(values) if len(values) <= 4 else f"{values[0]}, {values[1]} ... {values[-1]}"
    return Grouping(f"coloured by {title}", values, np.where(labels_N < 0, -1, group_of[labels_N]))


def embedding_figure(embedding: Embedding, *, color_by: str = "auto") -> Figure:
    """Draws an embedding, one panel for each part of the class names that is chosen; see `chosen_parts`."""
    panels = groupings(embedding, color_by)
    figure = new_figure((PANEL + 0.9) * len(panels), PANEL + 0.7)
    figure.suptitle(_title(embedding), fontsize=10)
    for axes, grouping in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        _draw(axes, embedding.points_N2, grouping)
    return figure


def _title(embedding: Embedding) -> str:
    text = f"t-SNE of {len(embedding.keys)} videos ({embedding.layer}, perplexity {embedding.perplexity:.3g})"
    if embedding.purity is None:
        return text
    shares = f"{embedding.purity:.0%} in the picture, {embedding.feature_purity:.0%} in the features"
    return f"{text}\nof a video's {embedding.neighbours} nearest neighbours, of its class: {shares}"


def _draw(axes: Axes, points_N2: Floats, grouping: Grouping) -> None:
    """Draws points coloured by group; what is close belongs together, axes have no unit."""
    look: dict[str, Any] = {
        "s": float(np.clip(6000 / len(points_N2), 5, 36)),
        "linewidths": 0,
        "rasterized": len(points_N2) > RASTER_ABOVE,
    }
    none_N = grouping.groups_N < 0
    if none_N.any():
        axes.scatter(*points_N2[none_N].T, color=NO_CLASS, label="no class", **look)
    groups = np.unique(grouping.groups_N[~none_N])
    draw = _with_legend if len(groups) <= LEGEND else _with_names
    draw(axes, points_N2, grouping, groups, look)
    axes.margins(0.07)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("nearby points are similar; axes have no unit", fontsize=8)
    axes.spines[:].set_color("#bbbbbb")


def _with_legend(
    axes: Axes, points_N2: Floats, grouping: Grouping, groups: Labels, look: dict[str, Any]
) -> None:
    """Draws each group in a colour and a shape of its own."""
    for number, group in enumerate(map(int, groups)):
        turn, colour = divmod(number, len(COLOURS))
        points = points_N2[grouping.groups_N == group]
        name = grouping.names[group]
        axes.scatter(
            *points.T, color=COLOURS[colour], marker=MARKERS[turn], alpha=0.8, label=short(name), **look
        )
    axes.set_title(grouping.title, fontsize=9)
    if len(groups):
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.4)


def _with_names(
    axes: Axes, points_N2: Floats, grouping: Grouping, groups: Labels, look: dict[str, Any]
) -> None:
    """Draws neighbouring groups in different colours, and names those that there is room for."""
    members = [np.flatnonzero(grouping.groups_N == group) for group in groups]
    medians_G2 = np.array([np.median(points_N2[rows], axis=0) for rows in members])
    for rows, colour in zip(_of_colour(members, _apart(medians_G2)), COLOURS, strict=True):
        axes.scatter(*points_N2[rows].T, color=colour, alpha=0.8, **look)
    order = sorted(range(len(groups)), key=lambda number: -len(members[number]))
    places = [(grouping.names[int(groups[number])], medians_G2[number]) for number in order]
    named = _name_medians(axes, points_N2, places)
    axes.set_title(f"{named} of {len(groups)} classes are named", fontsize=9)


def _of_colour(members: Sequence[Labels], colours: Sequence[int]) -> list[Labels]:
    """Returns for each colour the points of all groups that have it."""
    return [
        np.concatenate([rows for rows, used in zip(members, colours, strict=True) if used == colour])
        for colour in range(len(COLOURS))
    ]


def _apart(medians_G2: Floats) -> list[int]:
    """Returns a colour for each group: the one whose nearest user so far is the farthest away."""
    nearest_GC = np.full((len(medians_G2), len(COLOURS)), np.inf)
    chosen: list[int] = []
    for group, median in enumerate(medians_G2):
        colour = int(nearest_GC[group].argmax())
        chosen.append(colour)
        distance_G = np.linalg.norm(medians_G2 - median, axis=1)
        nearest_GC[:, colour] = np.minimum(nearest_GC[:, colour], distance_G)
    return chosen


def _name_medians(axes: Axes, points_N2: Floats, names: Sequence[tuple[str, Floats]]) -> int:
    """Writes names above their places, in their order, where they cover no other; returns how many."""
    unit = np.ptp(points_N2, axis=0) / (72 * PANEL)  # what a point of type is, nearly, on the axes
    taken: list[tuple[Floats, Floats]] = []
    for whole, median in names:
        name = short(whole)
        place = median + unit * NAME_SIZE * np.array([0, 1.2])
        half = unit * NAME_SIZE * np.array([0.3 * len(name), 0.6])
        if all((np.abs(place - other) > half + room).any() for other, room in taken):
            taken.append((place, half))
            text = axes.text(
                float(place[0]), float(place[1]), name, fontsize=NAME_SIZE, ha="center", va="center"
            )
            text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
    return len(taken)
